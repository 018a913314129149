"""Tensor shapes for annotations: jaxtyping's types, or plain ones if jaxtyping is missing.

The environments run with torch and numpy alone, so every module imports these names from here.
The tests have jaxtyping, and check each annotated shape at run time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, Shaped, UInt8
    except ImportError:

        class _Unchecked:
            """`Float[Tensor, "N S"]` is `Tensor`."""

            def __class_getitem__(cls, array_and_axes):
                return array_and_axes[0]

        Bool = Float = Int = Shaped = UInt8 = _Unchecked

__all__ = ["Bool", "Float", "Int", "Shaped", "UInt8"]
