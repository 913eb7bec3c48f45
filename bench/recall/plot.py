#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw what bench_eviction_quality --json FILE measured, as SVG, or print its table as Markdown."""

import argparse
import json
import pathlib

WIDTH, HEIGHT, LEFT, TOP, PANEL, TALL, GAP = 960, 420, 56, 62, 320, 300, 56
SHOWN = (  # method, colour, dashes
    ("observed", "#8c6d1f", ""), ("keydiff", "#b08bbf", ""), ("h2o", "#c9a227", "6 3"),
    ("max", "#1b7f6b", ""), ("max, layer budgets", "#1b7f6b", "6 3"), ("layer_defensive_kv", "#3d7ab8", "6 3"),
    ("defensive_kv", "#3d7ab8", ""), ("mean", "#d0602f", ""), ("snapkv", "#d0602f", "6 3"),
    ("sliding_window", "#7b8794", "6 3"), ("random", "#7b8794", ""),
)


def read(file):
    """-> {metric: {method: [(kept, body, value)]}}"""
    found = {}
    for record in json.loads(file.read_text())["records"]:
        method, _, budget = record["case"].rpartition(" ")
        kept, slash, body = budget.partition("/")
        if slash and kept.isdigit():
            found.setdefault(record["metric"], {}).setdefault(method, []).append((int(kept), int(body), record["value"]))
    return found


def panel(title, lines, left):
    x = lambda share: left + share / 0.85 * PANEL
    y = lambda value: TOP + (1 - value) * TALL
    out = [f'<text x="{left}" y="{TOP - 14}" font-weight="600" fill="#1f2933">{title}</text>', '<g stroke="#d9e0e6" stroke-width="1">']
    out += [f'<line x1="{left}" x2="{left + PANEL}" y1="{y(v / 5):.1f}" y2="{y(v / 5):.1f}"/>' for v in range(6)]
    out += ['</g>', '<g fill="#52606d" font-size="11">']
    out += [f'<text x="{left - 8}" y="{y(v / 5) + 4:.1f}" text-anchor="end">{v / 5:.1f}</text>' for v in range(6)]
    out += [f'<text x="{x(p / 10):.1f}" y="{TOP + TALL + 18}" text-anchor="middle">{p * 10} %</text>' for p in range(1, 9)]
    out += [f'<text x="{left + PANEL / 2}" y="{TOP + TALL + 38}" text-anchor="middle">of the body kept, per head on average</text>', "</g>"]
    for method, colour, dashes in SHOWN:
        points = " ".join(f"{x(k / b):.1f},{y(v):.1f}" for k, b, v in lines[method])
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    return out


def draw(found):
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           f'<text x="20" y="24" font-weight="600" fill="#1f2933">Right answers after an eviction, mean of the models, by what is kept</text>']
    for index, (metric, title) in enumerate((("unseen keys", "keys not asked before the eviction"), ("aggregate", "the majority of the markers"))):
        out += panel(title, found[metric], LEFT + index * (PANEL + GAP))
    for index, (method, colour, dashes) in enumerate(SHOWN):
        left, top = LEFT + 2 * PANEL + GAP + 24, TOP + 12 + index * 22
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        out.append(f'<line x1="{left}" x2="{left + 26}" y1="{top}" y2="{top}" stroke="{colour}" stroke-width="2"{dash}/>')
        out.append(f'<text x="{left + 34}" y="{top + 4}" fill="#1f2933">{method}</text>')
    return "\n".join(out) + "\n</svg>\n"


def table(found, metric, kept):
    low, high = found[f"{metric}, lowest"], found[f"{metric}, highest"]
    budgets = [b for b, _, _ in next(iter(found[metric].values()))]
    columns = [i for i, b in enumerate(budgets) if b in kept]
    print(f"| {metric} | " + " | ".join(f"{budgets[i]}" for i in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for method, values in found[metric].items():
        if method in low:
            cells = (f"{values[i][2]:.2f} ({low[method][i][2]:.2f}–{high[method][i][2]:.2f})" for i in columns)
            print(f"| {method} | " + " | ".join(cells) + " |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("json", type=pathlib.Path)
    arguments.add_argument("--svg", type=pathlib.Path)
    arguments.add_argument("--table", choices=("unseen keys", "aggregate", "seen keys"))
    options = arguments.parse_args()
    found = read(options.json)
    if options.svg:
        options.svg.write_text(draw(found))
    if options.table:
        table(found, options.table, (19, 24, 38, 77, 115, 154))


if __name__ == "__main__":
    main()
