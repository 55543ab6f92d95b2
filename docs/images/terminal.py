"""Draws what a command printed, colours and all, as an SVG: terminal.py TITLE < OUTPUT > PICTURE."""

import html
import re
import sys

CHARACTER, LINE, MARGIN, BAR = 8.43, 19, 16, 30
COLOURS = {"31": "r", "32": "g", "33": "y", "34": "b", "35": "m", "36": "c"}
STYLE = """
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d6d9de }
.r { fill: #ff7b72 } .g { fill: #7ee787 } .y { fill: #e3b341 } .b { fill: #79c0ff } .m { fill: #d2a8ff } .c { fill: #76e3ea }
.bold { font-weight: bold } .dim, .title { fill: #8b949e }
"""


def spans(line):
    """The line as runs of one colour."""
    classes = []
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        code = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
        if not code:
            text = html.escape(part)
            yield f'<tspan class="{" ".join(classes)}">{text}</tspan>' if classes and text else text
            continue
        for number in code[1].split(";"):
            if number in ("", "0"):
                classes = []
            elif number == "1":
                classes.append("bold")
            elif number == "2":
                classes.append("dim")
            elif number[-2:] in COLOURS or number in ("9" + c[1] for c in COLOURS):
                classes.append(COLOURS.get(number, COLOURS.get("3" + number[-1])))
            elif number == "39":
                classes = [name for name in classes if name not in COLOURS.values()]


def picture(title, lines):
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    width = round(max(map(len, plain)) * CHARACTER + 2 * MARGIN)
    height = BAR + LINE * len(lines) + 2 * MARGIN
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    yield f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    yield f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>'
    yield f'<text class="title" x="{MARGIN}" y="{BAR - 8}">{html.escape(title)}</text>'
    yield f'<path d="M0 {BAR}h{width}" stroke="#30363d"/>'
    for number, line in enumerate(lines):
        if line:
            y = BAR + MARGIN + LINE * number + 12
            yield f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{"".join(spans(line))}</text>'
    yield "</svg>"


if __name__ == "__main__":
    print("\n".join(picture(sys.argv[1], sys.stdin.read().rstrip("\n").split("\n"))))
