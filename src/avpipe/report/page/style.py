"""The page's style sheet: a light and a dark scheme, narrow screens, and paper."""

from __future__ import annotations

_LIGHT = """
--ink:#1c1e21;--paper:#ffffff;--panel:#f5f6f8;--rule:#d5d8dc;--muted:#5c6168;--warn:#8a4b00;--warn-panel:#fff4e0;
--blue:#0072b2;--orange:#c98a00;--green:#009e73;--red:#d55e00;--purple:#b5588a;--sky:#3a9fd8;color-scheme:light
"""
_DARK = """
--ink:#e6e7e9;--paper:#15171a;--panel:#1e2125;--rule:#3a3f45;--muted:#a2a8b0;--warn:#ffc870;--warn-panel:#33270f;
--blue:#4aa8e0;--orange:#e69f00;--green:#1fbf90;--red:#f28444;--purple:#de97bf;--sky:#8fd0f5;color-scheme:dark
"""
STYLE = (
    f"""
:root{{{_LIGHT.strip()}}}
@media screen and (prefers-color-scheme:dark){{:root{{{_DARK.strip()}}}}}
"""
    + """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header,footer,nav{max-width:72rem;margin:0 auto;padding:0 1rem}
h1{font-size:1.6rem;line-height:1.25;margin:1.5rem 0 .2rem;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.2rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--rule)}
h3{font-size:1.05rem;margin:1.4rem 0 .4rem;overflow-wrap:anywhere}
h2 a,h3 a{color:inherit;text-decoration:none}
h2 a:hover::after,h2 a:focus::after{content:" #";color:var(--muted)}
p{margin:.5rem 0;max-width:52rem;overflow-wrap:anywhere}
a{color:var(--blue)}
.sub,.muted,figcaption,caption{color:var(--muted)}
.notices{background:var(--warn-panel);border-left:4px solid var(--warn);padding:.6rem 1rem;margin:1rem 0}
.notices ul,nav ol{margin:.2rem 0;padding-left:1.2rem}
li{overflow-wrap:anywhere}
.notices li{margin:.3rem 0}
.notices b{color:var(--warn)}
nav ol{columns:14rem;max-width:52rem}
.scroll{overflow-x:auto;margin:.6rem 0;max-width:100%}
table{border-collapse:collapse;font-size:.875rem}
th,td{padding:.28rem .6rem;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top}
thead th{border-bottom:2px solid var(--rule);vertical-align:bottom}
tbody th{font-weight:600}
.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.bar{width:40%;min-width:10rem;white-space:nowrap}
td.bar div{display:flex;align-items:center;gap:.5rem}
td.bar i{display:block;height:.75rem;background:var(--blue);border-radius:1px;flex:none}
tr.marked td.bar i{background:var(--orange)}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1rem;margin:.6rem 0}
figure{margin:0;background:var(--panel);padding:.6rem .7rem;border-radius:6px;break-inside:avoid;min-width:0}
figure.wide{grid-column:1/-1;overflow-x:auto}
figcaption{font-size:.85rem;margin-bottom:.3rem;overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto}
svg text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
svg *{stroke-linejoin:round}
svg image{image-rendering:pixelated}
.keys{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;font-size:.85rem;margin:.4rem 0;padding:0;list-style:none}
figure .keys{font-size:.78rem;color:var(--muted)}
.keys svg{display:inline-block;width:1.6rem;height:.7rem;margin-right:.35rem}
details{margin:.5rem 0;border:1px solid var(--rule);border-radius:6px;padding:0 .8rem}
summary{cursor:pointer;padding:.45rem 0;font-weight:600;overflow-wrap:anywhere}
details[open]{padding-bottom:.6rem}
footer{margin-top:2.5rem;padding-bottom:2rem;color:var(--muted);font-size:.875rem}
@media (max-width:40rem){h1{font-size:1.3rem}h2{font-size:1.15rem}body{font-size:15px}th,td{padding:.22rem .4rem}
tbody th{overflow-wrap:anywhere;min-width:8rem}}
@media print{
nav{display:none}figure.wide svg{min-width:0!important}.scroll,figure.wide{overflow:visible}body{font-size:10pt}
details::details-content{content-visibility:visible;block-size:auto}h2,h3,summary{break-after:avoid}tr{break-inside:avoid}
}
"""
)
