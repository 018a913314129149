"""What plot.py and watch.py draw: learning curves, position maps, films of episodes. Nothing here opens a window."""
