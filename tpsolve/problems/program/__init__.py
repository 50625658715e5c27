"""Program target problems: symbols that a program reads, which can only be called."""
