"""Style sheet of pages: on a screen, on a phone and on paper."""

STYLE = """
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0; padding: 1rem; }
main { max-width: 1060px; margin: auto; }
h1 { font-size: 1.45rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 0 0 .7rem; }
p { color: var(--soft); margin: .3rem 0 .7rem; }
section, header { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 1rem;
  margin: 0 0 1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; }
.tiles div { border-left: 3px solid var(--good); padding-left: .7rem; }
.tiles b, .tiles span, .tiles small { display: block; } .tiles b { font-size: 1.4rem; line-height: 1.3; }
.tiles small { color: var(--soft); }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1rem 1.5rem;
  align-items: start; }
figure { margin: 0; break-inside: avoid; } figcaption { color: var(--soft); font-size: .87rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
td, th { padding: .28rem .6rem; text-align: right;
  border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td:first-child, th:first-child { text-align: left; }
.wide td, .wide th { white-space: nowrap; } .wide .facts td { white-space: normal; }
.facts td { text-align: left; overflow-wrap: anywhere; }
.wide .facts td:first-child { white-space: nowrap; width: 1%; color: var(--soft); }
.bar { display: flex; width: 110px; height: 12px; margin-top: .3rem; border-radius: 3px; overflow: hidden; }
.bar i { display: block; } .key i { display: inline-block; width: 12px; height: 12px; margin: 0 .3rem 0 .8rem; }
.key { margin: 0 0 .4rem; } .key i:first-child { margin-left: 0; }
i.ok { background: var(--good); } i.review { background: var(--warn); }
i.reject { background: var(--bad); }
.limits input { width: 100%; margin: 0 0 .6rem; accent-color: var(--good); height: 1.6rem; }
.limits output { color: var(--ink); font-size: 1.4rem; font-weight: 700; } .limits td { white-space: normal; }
.limits td:last-child { white-space: nowrap; } .limits table { margin-bottom: .7rem; }
.limits code { user-select: all; overflow-wrap: anywhere; color: var(--ink); font-size: .87rem; }
.wraps td, .wraps th { white-space: normal; }
@media (max-width: 600px) { .limits td:last-child { white-space: normal; }
  .wraps td, .wraps th { padding: .28rem .2rem; font-size: .8rem; } }
.limits button { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--line);
  border-radius: 6px; padding: .2rem .8rem; cursor: pointer; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 1rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; }
.pair img { width: 100%; height: 190px; object-fit: contain; background: var(--ground); display: block; }
figcaption b { color: var(--ink); overflow-wrap: anywhere; }
@media print {
  @page { size: A4; margin: 12mm; }
  body { padding: 0; font-size: 11px; } section, header { border: 0; padding: 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .grid { grid-template-columns: 1fr 1fr; } .cases { grid-template-columns: 1fr 1fr 1fr; }
  .limits { display: none; }
  h2, h2 + p { break-after: avoid; }
  .wide { overflow: visible; } .pair img { height: 110px; } td, th { padding: .2rem .35rem; }
}
"""
