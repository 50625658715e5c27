"""Search for network problems whose weights are whole numbers of a set."""
