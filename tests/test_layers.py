import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from eoi.modules.layers import AgentLinear, AgentMLP, mlp


def test_agent_mlp_equals_a_loop_over_agents():
    torch.manual_seed(0)
    net, x = AgentMLP(3, [5, 8, 8, 2]), torch.randn(7, 3, 5)
    expected = []
    for i in range(3):
        h = x[:, i]
        for k, layer in enumerate(net.layers):
            h = (h.relu() if k else h) @ layer.weight[i].T + layer.bias[i, :, 0]
        expected.append(h)
    torch.testing.assert_close(net(x), torch.stack(expected, 1))


def test_any_batch_axes():
    torch.manual_seed(0)
    net, x = AgentMLP(3, [5, 4, 2]), torch.randn(2, 6, 3, 5)
    torch.testing.assert_close(net(x), torch.stack([net(row) for row in x]))
    assert net(torch.randn(3, 5)).shape == (3, 2)


def test_shared_weights_are_one_network():
    torch.manual_seed(0)
    net, x = AgentMLP(3, [5, 4, 2], shared=True), torch.randn(6, 3, 5)
    assert net.layers[0].weight.shape == (1, 4, 5)
    torch.testing.assert_close(net(x[:, [2, 0, 1]]), net(x)[:, [2, 0, 1]])


def test_one_agents_loss_leaves_the_others_alone():
    net = AgentMLP(3, [5, 4, 2])
    net(torch.randn(6, 3, 5))[:, 1].sum().backward()
    for p in net.parameters():
        assert p.grad is not None
        assert p.grad[1].abs().sum() > 0
        assert p.grad[[0, 2]].abs().sum() == 0


def test_frozen_passes_gradients_to_the_input_only():
    net, x = AgentMLP(2, [3, 4, 1]), torch.randn(5, 2, 3, requires_grad=True)
    net(x, frozen=True).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())
    torch.testing.assert_close(net(x, frozen=True), net(x))


def test_same_init_gives_every_agent_the_same_weights():
    net = AgentMLP(4, [3, 4, 1], same_init=True)
    assert all(torch.equal(p[0], p[i]) for p in net.parameters() for i in range(4))


def test_parameter_count_and_range():
    """MLP 25 -> 128 -> 128 -> 5 has 20,485 parameters."""
    assert sum(p.numel() for p in AgentMLP(1, [25, 128, 128, 5]).parameters()) == 20485
    assert AgentLinear(4, 100, 50).weight.abs().max() <= 0.1


def test_mlp_is_linear_relu_linear():
    net = mlp([2, 3, 4, 1])
    assert [type(layer) for layer in net] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_a_wrong_shape_raises():
    """If this passes silently, the shape checks of all annotations are off."""
    with pytest.raises(TypeCheckError):
        AgentLinear(3, 5, 2)(torch.randn(3, 5))
