"""Still pictures of a canvas, or of what is known of its run: text, html and svg.  Pure."""
