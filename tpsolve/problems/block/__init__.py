"""Block target problems: any module above, by forward passes."""
