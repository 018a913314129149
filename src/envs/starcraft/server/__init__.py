"""The embedded engine behind StarCraft II's API, for clients of the game: pysc2, and SMAC on pysc2.

`match`: one game. `messages`: a match as messages of the protocol. `session`: answers to the
requests of one client. `network`: the connections. `place`: installation where pysc2 expects the
game.
"""
