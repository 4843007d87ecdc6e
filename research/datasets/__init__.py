"""Video sets that tables of results alone are measured on."""
