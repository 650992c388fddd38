"""The report as one HTML page that needs nothing beside it."""

from __future__ import annotations

import json

from conformance.outcome import (
    OUTCOMES,
    SPECIFICATION,
    STRENGTHS,
    Report,
    counts,
    deviations,
    mutations_line,
)
from requirements import Catalogue

TITLE = "Conformance to the OCI runtime specification 1.3"


def render(catalogue: Catalogue, report: Report) -> str:
    """The whole page."""
    runs = report.runs
    known = {run.name: deviations(run.name) for run in runs}
    rows = [
        {
            "id": requirement.id,
            "strength": catalogue.strength(requirement),
            "level": requirement.level,
            "section": requirement.section,
            "summary": requirement.summary,
            "note": requirement.note,
            "test": requirement.checked_by,
            "cells": [{**run.of(requirement), "deviation": known[run.name].get(requirement.id, "")} for run in runs],
        }
        for requirement in catalogue.requirements
    ]
    data = {
        "specification": SPECIFICATION,
        "machine": report.machine,
        "vm": report.vm["machine"] if report.vm else "",
        "mutations": mutations_line(report.mutations) if report.mutations["of"] else "",
        "outcomes": [*OUTCOMES, "untestable"],
        "strengths": STRENGTHS,
        "runtimes": [{"name": run.name, "version": run.version, "command": run.command} for run in runs],
        "counts": [counts(catalogue, run) for run in runs],
        "rows": rows,
    }
    # "</" would end the script.
    text = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    return _PAGE.replace("@TITLE@", TITLE).replace("@DATA@", text)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
:root { color-scheme: light dark; --line: #8884; --faint: #8882; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 82rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .5rem; text-align: left; vertical-align: top; }
thead th { background: Canvas; position: sticky; top: 0; }
#counts { margin: 1rem 0; width: auto; }
#counts td { text-align: right; }
form { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
input, select { font: inherit; padding: .2rem .4rem; }
input { flex: 1 1 16rem; }
code { font-size: .85em; overflow-wrap: anywhere; }
.passed, .failed, .not_testable, .no_test, .untestable { border-radius: .3rem; padding: .05rem .4rem; }
.passed { background: #2a93; } .failed { background: #d336; } .not_testable, .untestable { background: var(--faint); }
.no_test { background: #ca35; }
details { max-width: 34rem; } dt { font-weight: 600; } dd { margin: 0 0 .3rem; overflow-wrap: anywhere; }
td:nth-child(1) { max-width: 32rem; }
small { opacity: .75; }
</style>
<h1>@TITLE@</h1>
<p id="about"></p>
<table id="counts"></table>
<form>
<input id="text" type="search" placeholder="id, summary, section, test" aria-label="text">
<select id="strength" aria-label="strength"><option value="">every strength</option></select>
<select id="outcome" aria-label="outcome"><option value="">every outcome</option></select>
<select id="runtime" aria-label="runtime"><option value="">of any runtime</option></select>
<output id="shown"></output>
</form>
<table id="rows"><thead></thead><tbody></tbody></table>
<script id="data" type="application/json">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = id => document.getElementById(id);
const words = { passed: "passed", failed: "failed", not_testable: "not testable here", no_test: "no test yet",
                untestable: "not testable from outside" };
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, attributes);
  element.append(...children);
  return element;
}
function cell(result) {
  const where = result.where ? " in the VM" : "";
  const badge = make("span", { className: result.outcome }, words[result.outcome] + where);
  const facts = [["expected", result.expected], ["seen", result.seen], ["reason", result.reason],
                 ["on purpose", result.deviation]].filter(f => f[1]);
  if (!facts.length) return make("td", {}, badge);
  const list = make("dl", {});
  for (const [name, text] of facts) list.append(make("dt", {}, name), make("dd", {}, text));
  return make("td", {}, make("details", {}, make("summary", {}, badge), list));
}
function row(r) {
  const link = make("a", { href: data.specification + r.section }, r.section);
  const about = make("td", {}, make("code", {}, r.id), make("br"), r.summary, make("br"), make("small", {}, link));
  if (r.note) about.append(make("br"), make("small", {}, r.note));
  return make("tr", {}, about, make("td", {}, r.level), ...r.cells.map(cell));
}
function show() {
  const text = get("text").value.toLowerCase(), strength = get("strength").value, outcome = get("outcome").value;
  const runtime = get("runtime").value;
  const found = data.rows.filter(r =>
    (!text || (r.id + r.summary + r.section + r.test).toLowerCase().includes(text)) &&
    (!strength || r.strength === strength) &&
    (!outcome || r.cells.some((c, i) => c.outcome === outcome && (!runtime || data.runtimes[i].name === runtime))));
  get("rows").tBodies[0].replaceChildren(...found.map(row));
  get("shown").textContent = `${found.length} of ${data.rows.length}`;
}
get("about").textContent = [data.machine, data.vm && `in the VM: ${data.vm}`,
  ...data.runtimes.map(r => `${r.name}: ${r.version}`), data.mutations].filter(text => text).join("; ") + ".";
for (const name of data.strengths) get("strength").append(make("option", { value: name }, name));
for (const name of data.outcomes) get("outcome").append(make("option", { value: name }, words[name]));
for (const r of data.runtimes) get("runtime").append(make("option", { value: r.name }, r.name));
const heads = ["requirement", "level", ...data.runtimes.map(r => r.name)].map(t => make("th", {}, t));
get("rows").tHead.append(make("tr", {}, ...heads));
const tested = data.outcomes.slice(0, 4);
get("counts").append(make("tr", {}, ...["", "", ...tested.map(o => words[o])].map(t => make("th", {}, t))));
data.runtimes.forEach((r, i) => data.strengths.forEach(s => get("counts").append(
  make("tr", {}, make("th", {}, r.name), make("th", {}, s),
       ...tested.map(o => make("td", {}, String(data.counts[i][s][o])))))));
for (const id of ["text", "strength", "outcome", "runtime"]) get(id).addEventListener("input", show);
document.querySelector("form").addEventListener("submit", event => event.preventDefault());
show();
</script>
</html>
"""
