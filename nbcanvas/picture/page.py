"""An html page that needs nothing else: no script, no request, light and dark, and it can be printed."""

from __future__ import annotations

from .markup import escape

__all__ = ["page", "text"]

#: The browser itself holds the page to it: nothing is loaded, nothing is run.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
# The pictures' own colours read as shapes on any ground; here the ground is known, and they read as text.
_CSS = """
:root{color-scheme:light dark;--ink:#1c2127;--faint:#5d646e;--ground:#fff;--line:#d9dde2;--shade:#f5f6f8;
--jp-success-color1:#1d7a4c;--jp-error-color1:#c0302f;--jp-brand-color1:#1f6fbf;--jp-warn-color1:#8f5a00;
--nbc-revoked:#7f45a6;--nbc-faint:#5d646e;--nbc-sent:#4c647f;
--jp-ui-font-color1:var(--ink);--jp-ui-font-color2:var(--faint)}
@media(prefers-color-scheme:dark){:root{--ink:#e4e7eb;--faint:#a0a8b2;--ground:#16191d;--line:#363c44;--shade:#1f2328;
--jp-success-color1:#4cbf86;--jp-error-color1:#f07f7d;--jp-brand-color1:#6cb0f2;--jp-warn-color1:#dfa03a;
--nbc-revoked:#c79be3;--nbc-faint:#a0a8b2;--nbc-sent:#9db3cc}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
header,main,footer{max-width:1080px;margin:0 auto;padding:0 24px}
header{padding-top:36px}
h1{font-size:27px;line-height:1.2;margin:0 0 6px}
h2{font-size:18px;margin:36px 0 10px;padding-bottom:5px;border-bottom:1px solid var(--line)}
h3{font-size:15px;margin:20px 0 4px;overflow-wrap:anywhere}
p{margin:6px 0}
code,pre{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace}
pre{background:var(--shade);border:1px solid var(--line);border-radius:6px;padding:10px 12px;overflow:auto}
pre{max-height:26em}
img{max-width:100%;height:auto}
footer{color:var(--faint);font-size:13px;padding-top:30px;padding-bottom:36px}
.lead{font-size:16px}.faint{color:var(--faint)}.wide{overflow-x:auto}
@media print{body{font-size:11px}pre{max-height:none;white-space:pre-wrap}h2,h3{break-after:avoid}
tr,figure,img,article{break-inside:avoid}header,main,footer{max-width:none;padding-left:0;padding-right:0}}
"""


def text(value: object, limit: int = 400) -> str:
    """Return any text so that it stands for itself on a page."""
    return escape(value, limit)


def page(title: str, main: str, header: str = "", footer: str = "") -> str:
    """Return a whole page.

    Parameters
    ----------
    title
        Its title, as plain text.
    main, header, footer
        What is on it, as html that was made safe.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        + (f"<header>\n{header}\n</header>\n" if header else "")
        + f"<main>\n{main}\n</main>\n"
        + (f"<footer>\n{footer}\n</footer>\n" if footer else "")
        + "</body>\n</html>\n"
    )
