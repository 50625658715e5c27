"""Those who look for networks in a race: local searches in threads, and in a process of their own."""
