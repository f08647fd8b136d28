"""What builds and tries the project; nothing here is installed."""
