"""Reports: runs as one HTML page with figures that can be switched, hovered and zoomed."""
