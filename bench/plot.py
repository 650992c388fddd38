"""The results as a bar chart in SVG, which a browser shows light or dark as its user has it.

A group of bars for each case, a bar for each runtime: as long as its median is, measured by the baseline's median, with
a line from quartile to quartile. Beside it stand the time and the ratio. Nothing but standard elements and fonts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from bench.results import Results
from bench.series import Summary
from bench.tables import format_seconds, machine_line

WIDTH = 860
LEFT, RIGHT, TOP = 236, 150, 120
BAR, BAR_GAP, GROUP_GAP, BOTTOM, LINE = 13, 3, 15, 34, 16
# A bar that is longer than this is cut off, and its end says so.
LONGEST_RATIO = 1.6
TICKS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
MAX_SERIES = 5

# Colours that differ in lightness too: the last runtime, which the chart is about, gets the strongest.
_STYLE = """
text { font: 12px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
.value { font-size: 11px }
.strong { font-weight: 600 }
.ground { fill: #ffffff; stroke: #d1d9e0 }
.tick { stroke: #d1d9e0 }
.one { stroke: #818b98; stroke-dasharray: 3 3 }
.spread { stroke: #1f2328; stroke-opacity: .55; stroke-width: 1.5 }
.cut { fill: #ffffff }
.bar0 { fill: #a7b0ba } .bar1 { fill: #d9a441 } .bar2 { fill: #6fa8dc } .bar3 { fill: #8fbf8f } .bar4 { fill: #b392c9 }
.main { fill: #0969da }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.small { fill: #9198a1 }
.ground { fill: #0d1117; stroke: #3d444d }
.tick { stroke: #2a313c }
.one { stroke: #9198a1 }
.spread { stroke: #f0f6fc }
.cut { fill: #0d1117 }
.bar0 { fill: #656c76 } .bar1 { fill: #b5832a } .bar2 { fill: #3f6f9f } .bar3 { fill: #4f7f4f } .bar4 { fill: #7a5c91 }
.main { fill: #4493f8 }
}
"""


@dataclass(frozen=True, slots=True)
class _Scale:
    """From ratios to the horizontal positions of the picture."""

    longest: float

    def x(self, ratio: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(ratio, self.longest) / self.longest


@dataclass(frozen=True, slots=True)
class _Bar:
    """One runtime in one case: its times as parts of the unit, which is the baseline's median."""

    style: str
    is_main: bool
    summary: Summary
    unit: float
    ratio: float | None


def draw(results: Results, cases: Sequence[str]) -> str:
    """The picture of the cases, as far as they were measured."""
    groups = {case: bars for case in cases if (bars := _bars(results, case))}
    ratios = [bar.summary.upper / bar.unit for bars in groups.values() for bar in bars]
    scale = _Scale(min(LONGEST_RATIO, max([1.02, *ratios])))
    body: list[str] = []
    y = float(TOP)
    for case, bars in groups.items():
        body += _group(results.title(case).strip(), bars, y, scale)
        y += len(bars) * (BAR + BAR_GAP) + GROUP_GAP
    axis = y - GROUP_GAP + 6
    remarks = [f"{one.name}: {one.note}" for one in results.subjects if one.note]
    height = axis + BOTTOM + LINE * len(remarks)
    notes = [_text(20, axis + BOTTOM + LINE * index, words, "small") for index, words in enumerate(remarks)]
    return "\n".join([*_frame(results, height), *_ticks(results, scale, axis), *body, *notes, "</svg>"]) + "\n"


def _styles(results: Results) -> dict[str, str]:
    """The class of each runtime's bars; the last one's is the strong one."""
    names = [one.name for one in results.subjects]
    styles = {name: f"bar{index % MAX_SERIES}" for index, name in enumerate(names)}
    return styles | ({names[-1]: "main"} if len(names) > 1 else {})


def _bars(results: Results, case: str) -> list[_Bar]:
    baseline = results.summary(case, results.baseline)
    bars = []
    for name, style in _styles(results).items():
        summary, ratio = results.summary(case, name), results.ratio(case, name)
        if summary and baseline:
            is_baseline = name == results.baseline
            shown = ratio.of_medians if ratio and not is_baseline else None
            bars.append(_Bar(style, style == "main", summary, baseline.median, shown))
    return bars


def _group(title: str, bars: Sequence[_Bar], top: float, scale: _Scale) -> Iterator[str]:
    middle = top + (len(bars) * (BAR + BAR_GAP) - BAR_GAP) / 2
    yield _text(LEFT - 14, middle + 4, title, anchor="end")
    for index, bar in enumerate(bars):
        yield from _bar(bar, top + index * (BAR + BAR_GAP), scale)


def _bar(bar: _Bar, y: float, scale: _Scale) -> Iterator[str]:
    summary, unit = bar.summary, bar.unit
    end, middle = scale.x(summary.median / unit), y + BAR / 2
    yield f'<rect class="{bar.style}" x="{LEFT}" y="{y:.1f}" width="{end - LEFT:.1f}" height="{BAR}" rx="2"/>'
    after = end
    if summary.median / unit > scale.longest:
        yield f'<path class="cut" d="M{end - 14:.1f} {y + BAR + 1:.1f}l5 {-BAR - 2}h4l-5 {BAR + 2}z"/>'
    else:
        lower, after = scale.x(summary.lower / unit), scale.x(summary.upper / unit)
        yield f'<path class="spread" d="M{lower:.1f} {middle:.1f}H{after:.1f}"/>'
    words = format_seconds(summary.median) + ("" if bar.ratio is None else f" · {bar.ratio:.2f}")
    at = max(end, after) + 7
    # What is behind the words ends before them: a grid line would cross them.
    yield f'<rect class="cut" x="{at - 2:.1f}" y="{y:.1f}" width="{6.4 * len(words) + 4:.1f}" height="{BAR}"/>'
    yield _text(at, middle + 4, words, "value strong" if bar.is_main else "value")


def _frame(results: Results, height: float) -> Iterator[str]:
    """The picture's beginning: size, style, title and legend."""
    title = f"Time by command, beside {results.baseline}'s"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label={quoteattr(title)}>'
    )
    yield f"<style>{_STYLE}</style>"
    yield f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="6"/>'
    yield _text(20, 30, title, "title")
    how = "Medians of rounds in which the runtimes take turns, with quartiles, and the ratio. Less is better."
    yield _text(20, 48, how, "small")
    yield _text(20, 48 + LINE, machine_line(results), "small")
    x = 20.0
    for one in results.subjects:
        words = f"{one.name} {one.version}"
        yield f'<rect class="{_styles(results)[one.name]}" x="{x:.0f}" y="78" width="12" height="12" rx="2"/>'
        yield _text(x + 18, 88, words)
        x += 18 + 7.2 * len(words) + 22


def _ticks(results: Results, scale: _Scale, bottom: float) -> Iterator[str]:
    for ratio in (tick for tick in TICKS if tick <= scale.longest):
        x, is_one = scale.x(ratio), ratio == 1
        yield f'<path class="{"one" if is_one else "tick"}" d="M{x:.1f} {TOP - 8}V{bottom:.1f}"/>'
        yield _text(x, bottom + 14, f"1 = {results.baseline}" if is_one else f"{ratio:g}", "small", anchor="middle")


def _text(x: float, y: float, words: str, style: str = "", anchor: str = "") -> str:
    attributes = (f' class="{style}"' if style else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(words)}</text>'
