"""What `kimi serve` shows."""
