"""Still pictures of a canvas, or of what is known of its run: text, html and svg.  Pure."""

from .barred import bars_picture
from .graph import graph_picture
from .picture import Graph, Picture
from .report import report_html
from .table import table_picture
from .timeline import timeline_picture

__all__ = ["Graph", "Picture", "bars_picture", "graph_picture", "report_html", "table_picture", "timeline_picture"]
