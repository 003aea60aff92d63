"""The style of the page."""

STYLE = """
:root {
  color-scheme: light dark;
  --bg: #fff; --ink: #1b1f24; --dim: #636b75; --rule: #e4e6e9; --soft: #f5f6f7;
  --accent: #1a5fb4; --user: #eef3fa; --good: #17703a; --bad: #b3261e; --warn: #8a5a00;
  --add: #e3f5e7; --del: #fbe6e4; --hit: #ffe58a; --now: #ffab2e; --on-hit: #1b1f24;
  --mono: ui-monospace, "SF Mono", SFMono-Regular, Menlo, "Cascadia Mono", Consolas,
    "DejaVu Sans Mono", monospace;
  --gutter: 1.5rem;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #15181c; --ink: #d9dde2; --dim: #8d96a1; --rule: #2a2f36; --soft: #1c2026;
    --accent: #7db3f5; --user: #1b2533; --good: #6fcf8b; --bad: #ff8a80; --warn: #e5b567;
    --add: #17301f; --del: #3a1f1f; --hit: #6b5600; --now: #c77d00; --on-hit: #fff;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 4rem; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--bg); color: var(--ink); tab-size: 4;
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
p, h1, h2, h3, h4, h5, h6, dl, dd, pre, table, ul, ol, blockquote { margin: 0; }
code, pre, dd, dt, .call b { font-family: var(--mono); font-size: 13px; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: .15em; }
button, input { font: inherit; color: inherit; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px; }

header { position: sticky; top: 0; z-index: 2; background: var(--bg);
  border-bottom: 1px solid var(--rule); font-size: 13px; }
.bar, main { max-width: 56rem; margin: 0 auto; padding: 0 1.25rem; }
.bar { display: flex; gap: 1rem; align-items: center; min-height: 2.75rem; }
.name { flex: 1 1 0; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  color: var(--dim); text-decoration: none; }
#find { display: flex; gap: .4rem; align-items: center; flex: none; }
#find[hidden] { display: none; }
#find input[type=search] { width: 13rem; padding: .2rem .5rem; border: 1px solid var(--rule);
  border-radius: 4px; background: var(--soft); }
#find output { min-width: 4.5em; color: var(--dim); font-variant-numeric: tabular-nums; }
#find input:placeholder-shown ~ :is(output, [name=back], [name=next]) { display: none; }
#find input[type=search]:focus-visible { outline-offset: -1px; }
#find button { padding: .2rem .5rem; border: 1px solid transparent; border-radius: 4px;
  background: none; color: var(--dim); cursor: pointer; white-space: nowrap; }
#find button:hover { border-color: var(--rule); color: var(--ink); }
#find label { display: flex; gap: .3rem; align-items: center; color: var(--dim);
  white-space: nowrap; }
#find input[type=checkbox] { accent-color: var(--accent); margin: 0; }

main { padding-bottom: 6rem; }
h1 { margin-top: 2rem; font-size: 1.4rem; line-height: 1.3; font-weight: 600; text-wrap: balance;
  overflow-wrap: anywhere; }
.meta { color: var(--dim); font-size: 13px; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
h1 + .meta { margin-top: .5rem; }
nav { margin-top: 1.25rem; max-height: 22rem; overflow: auto; border-block: 1px solid var(--rule); }
nav table { width: 100%; border-collapse: collapse; font-size: 13px; table-layout: auto; }
nav td { padding: .25rem .75rem .25rem 0; vertical-align: baseline; white-space: nowrap;
  color: var(--dim); font-variant-numeric: tabular-nums; }
nav tr + tr td { border-top: 1px solid var(--rule); }
nav .right { text-align: right; }
nav td:last-child { padding-right: 0; }
nav .request { width: 100%; max-width: 0; overflow: hidden; text-overflow: ellipsis; }
nav .request a { color: var(--ink); text-decoration: none; }
nav .request a:hover { text-decoration: underline; }
nav .request .label:not(:empty)::before { content: " · "; }
nav .request .label { color: var(--warn); }
.gone { opacity: .6; }

h2 { display: flex; gap: .75rem; align-items: baseline; margin: 2.5rem 0 .75rem;
  font-size: 13px; font-weight: 400; color: var(--dim); }
h2 a { color: inherit; text-decoration: none; font-weight: 600; }
h2::after { content: ""; flex: 1; border-top: 1px solid var(--rule); align-self: center; }

.b { position: relative; padding-left: var(--gutter); margin: .45rem 0; }
#top .b:first-of-type { margin-top: 1.25rem; }
.g { position: absolute; left: 0; width: 1.1rem; text-align: center; user-select: none; }
.label { color: var(--dim); font-size: 13px; }
.words { max-width: 44rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.user { background: var(--user); border-radius: 6px; margin: 1rem calc(-1 * .75rem);
  padding: .6rem .75rem .6rem calc(var(--gutter) + .75rem); }
.user .g { left: .75rem; color: var(--accent); font-weight: 700; }
.user .words { font-weight: 500; }
.program { background: var(--soft); }
.program .words { font-weight: 400; }
.answer { margin: .8rem 0; }
.info { color: var(--dim); font-size: 13px; }
.warning, .asked, .stop { color: var(--warn); font-size: 13px; }
.stop b { font-weight: 600; }
.error .g, .b.error > p { color: var(--bad); }
.info pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.info p, .warning p, .b.error > p { white-space: pre-wrap; overflow-wrap: anywhere; }
.why { overflow-wrap: anywhere; white-space: pre-wrap; }
.figures { color: var(--dim); font-size: 13px; font-variant-numeric: tabular-nums; }
.end { margin-top: 1rem; }
.compaction { margin: 1.5rem 0; padding: .6rem 0 .6rem var(--gutter); color: var(--dim);
  font-size: 13px; border-block: 1px dashed var(--dim); }
.compaction p:first-child { color: var(--ink); }
.jumps a { padding-right: .75rem; text-decoration: none; }

summary { cursor: pointer; list-style: none; color: var(--dim); }
summary::-webkit-details-marker { display: none; }
summary, .summary { display: flex; gap: .6rem; align-items: baseline; font-size: 13px; }
summary .g, .summary .g { font-size: 13px; }
.size { margin-left: auto; flex: none; color: var(--dim); font-variant-numeric: tabular-nums; }
summary::after { content: "▸"; flex: none; width: .8em; margin-left: auto; color: var(--dim); }
summary:has(.size)::after { margin-left: 0; }
details[open] > summary::after { content: "▾"; }
summary:hover, summary:hover .size, summary:hover::after { color: var(--ink); }
.in { margin: .35rem 0 .75rem; }
.thought .in { color: var(--dim); border-left: 2px solid var(--rule); padding-left: .75rem;
  font-size: 14px; }
.thought summary, .thought .g { color: var(--dim); }
.call b { color: var(--ink); font-weight: 600; flex: none; }
.call summary > code, .call .summary > code { color: var(--ink); min-width: 0;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.call details[open] > summary > code, .call .summary > code { white-space: pre-wrap;
  overflow-wrap: anywhere; }
.outcome { flex: none; max-width: 60%; color: var(--dim); overflow-wrap: anywhere; }
.ok .g { color: var(--good); }
.call.error .outcome { color: var(--bad); }
.denied .g, .denied .outcome, .interrupted .g, .interrupted .outcome { color: var(--warn); }
.asked { overflow-wrap: anywhere; }

pre, dd.long { overflow-x: auto; padding: .5rem .75rem; background: var(--soft); border-radius: 4px;
  line-height: 1.45; white-space: pre; }
.output { margin-top: .35rem; }
details[open] + .tail { margin-top: -.75rem; padding-top: 0; border-radius: 0 0 4px 4px; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem .75rem;
  align-items: baseline; font-size: 15px; }
dt { color: var(--dim); }
dd { overflow-wrap: anywhere; white-space: pre-wrap; }
dd.long { grid-column: 1 / -1; }
.info dd { font-family: inherit; font-size: 13px; }
.diff { padding: .35rem 0; margin-top: .35rem; }
.l { display: block; padding-right: .75rem; min-width: max-content; }
.l::before { content: attr(data-n); display: inline-block; width: 3.2em; margin-right: .8em;
  text-align: right; color: var(--dim); user-select: none; }
.add { background: var(--add); color: var(--good); }
.del { background: var(--del); color: var(--bad); }
.at { color: var(--dim); }
img, video { display: block; max-width: 100%; max-height: 26rem; margin: .5rem 0;
  border: 1px solid var(--rule); border-radius: 4px; }

.prose { max-width: 44rem; overflow-wrap: anywhere; }
.prose > * + * { margin-top: .6rem; }
.prose :is(h3, h4, h5, h6) { font-size: 1em; font-weight: 600; margin-top: 1rem; }
.prose h3 { font-size: 1.1em; }
.prose :is(ul, ol) { padding-left: 1.4rem; }
.prose li + li { margin-top: .15rem; }
.prose li > p + * { margin-top: .4rem; }
.prose :not(pre) > code { background: var(--soft); border-radius: 3px; padding: .1em .3em; }
.prose blockquote { border-left: 2px solid var(--rule); padding-left: .75rem; color: var(--dim); }
.prose table { display: block; overflow-x: auto; border-collapse: collapse; font-size: 14px; }
.prose :is(th, td) { border-bottom: 1px solid var(--rule); padding: .25rem .75rem .25rem 0;
  text-align: left; vertical-align: top; }
.prose .right { text-align: right; }
.prose hr { border: 0; border-top: 1px solid var(--rule); }

.out, .quiet .thought { display: none; }
.now { box-shadow: -3px 0 var(--now); }
::highlight(hit) { background-color: var(--hit); color: var(--on-hit); }
::highlight(now) { background-color: var(--now); color: var(--on-hit); }
.turn > .b { content-visibility: auto; contain-intrinsic-size: auto 2.5rem; }

@media (max-width: 44rem) {
  .bar { flex-wrap: wrap; padding: .4rem .9rem; gap: .3rem; }
  .name { display: none; }
  #find { flex: 1 1 100%; flex-wrap: wrap; }
  #find input[type=search] { flex: 1 1 8rem; width: auto; min-width: 0; font-size: 16px; }
  main { padding-inline: .9rem; }
  .wide { display: none; }
  nav .request .label { display: block; }
  nav .request .label:not(:empty)::before { content: none; }
  .call summary, .call .summary { flex-wrap: wrap; column-gap: .6rem; row-gap: 0; }
  .call summary > code { white-space: pre-wrap; overflow-wrap: anywhere; }
}
@media print {
  header { display: none; }
  body { font-size: 10pt; }
  h2 { break-after: avoid-page; }
  .turn > .b { content-visibility: visible; break-inside: avoid-page; }
  .user { border: 1px solid var(--rule); }
  pre, dd.long { white-space: pre-wrap; overflow-wrap: anywhere; }
  .l { min-width: 0; }
  nav { max-height: none; }
  summary::after { content: none; }
}
"""
