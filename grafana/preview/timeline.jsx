// What holds when, as coloured bars: the panel state-timeline, whose drawing is in Grafana's core and not on npm.

import { getFieldDisplayName } from '@grafana/data';

const [AXIS, LEGEND, GAP, LETTER] = [22, 24, 8, 7];
const LONGEST_NAME = 0.45;
const TICK_EVERY_PIXELS = 90;

/** Times during which one value held: `{from, to, value}`, in milliseconds. A longer gap than `longest` is one. */
export function spans(times, values, end, longest) {
  const found = [];
  values.forEach((value, index) => {
    const next = times[index + 1] ?? end;
    const to = next - times[index] > longest ? times[index] : next;
    const last = found.at(-1);
    if (value === null || value === undefined) {
      return;
    }
    if (last && last.value === value && last.to === times[index]) {
      last.to = to;
    } else {
      found.push({ from: times[index], to, value });
    }
  });
  return found;
}

export function Timeline({ panel, frames, time, width, height, theme }) {
  const { fillOpacity, spanNulls } = panel.fieldConfig.defaults.custom;
  const rows = frames.map((frame) => {
    const [at, values] = [frame.fields.find((field) => field.type === 'time'), frame.fields.find((field) => field.type !== 'time')];
    return { name: getFieldDisplayName(values, frame, frames), display: values.display, spans: spans(at.values, values.values, time.to * 1000, spanNulls) };
  });
  const left = Math.min(LONGEST_NAME * width, Math.max(...rows.map(({ name }) => name.length)) * LETTER + GAP);
  const [across, down] = [width - left, height - AXIS - LEGEND];
  const row = down / rows.length;
  const x = (at) => left + (across * (at / 1000 - time.from)) / (time.to - time.from);
  const count = Math.max(1, Math.floor(across / TICK_EVERY_PIXELS));
  const ticks = Array.from({ length: count }, (_, index) => time.from + ((index + 0.5) * (time.to - time.from)) / count);
  const said = new Map(rows.flatMap(({ display, spans }) => spans.map(({ value }) => [display(value).text, display(value).color])));
  const letters = { fill: theme.colors.text.secondary, fontSize: 12 };
  return (
    <svg width={width} height={height}>
      {rows.map(({ name, display, spans }, index) => (
        <g key={name}>
          <text x={left - GAP} y={(index + 0.5) * row} textAnchor="end" dominantBaseline="central" style={letters}>{name}</text>
          {spans.map(({ from, to, value }) => (
            <rect key={from} x={x(from)} y={(index + 0.5 - panel.options.rowHeight / 2) * row} width={Math.max(1, x(to) - x(from))}
              height={panel.options.rowHeight * row} fill={display(value).color} fillOpacity={fillOpacity / 100} />
          ))}
        </g>
      ))}
      {ticks.map((at) => <text key={at} x={x(at * 1000)} y={down + AXIS / 2} textAnchor="middle" dominantBaseline="central" style={letters}>{new Date(at * 1000).toISOString().slice(11, 16)}</text>)}
      {[...said].map(([text, color], index) => (
        <g key={text} transform={`translate(${index * 90} ${height - LEGEND / 2})`}>
          <rect y={-2} width={14} height={4} rx={1} fill={color} />
          <text x={20} dominantBaseline="central" style={letters}>{text}</text>
        </g>
      ))}
    </svg>
  );
}
