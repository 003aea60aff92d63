"""What every part of `kimi` shares: it imports nothing else of the program."""
