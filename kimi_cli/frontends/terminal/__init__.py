"""The interactive terminal: operations out, events in; nothing of it reaches the loop."""
