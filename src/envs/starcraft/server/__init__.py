"""The embedded engine behind StarCraft II's own API, for clients that know only the game: pysc2, and SMAC on top of it.

`match` plays, `messages` shows a match in the protocol's words, `session` answers one client's requests, `network` carries them,
`place` puts all of it where pysc2 looks for the game.
"""
