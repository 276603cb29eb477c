// Answers of Prometheus and Postgres as the data frames that Grafana's data sources make of them. Pure.

import { legend } from './variables.mjs';

const NUMBERS = /^(smallint|integer|bigint|numeric|real|double precision)/;

/** Lines for a chart, from a range query. */
export function lines(refId, result, format) {
  return result.map(({ metric, values }) => ({
    refId,
    fields: [
      { name: 'Time', type: 'time', values: values.map(([at]) => at * 1000) },
      { name: 'Value', type: 'number', labels: metric, values: values.map(([, value]) => Number(value)), config: { displayNameFromDS: legend(format, metric) } },
    ],
  }));
}

/** One value for each series, from an instant query. */
export function values(refId, result, format) {
  return lines(refId, result.map(({ metric, value }) => ({ metric, values: [value] })), format);
}

/** One table for each query that has an answer; `several` of them are told apart by the name of their value. */
export function table(refId, result, several) {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  return {
    refId,
    fields: [
      { name: 'Time', type: 'time', values: result.map(({ value }) => value[0] * 1000) },
      ...labels.map((name) => ({ name, type: 'string', values: result.map(({ metric }) => metric[name] ?? '') })),
      { name: several ? `Value #${refId}` : 'Value', type: 'number', values: result.map(({ value }) => Number(value[1])) },
    ],
  };
}

/** Columns as psql tells them, `[name, type]` each, and rows of texts, null where there is nothing. */
export function rows(refId, columns, cells) {
  const fields = columns.map(([name, type], index) => {
    const kind = type.startsWith('timestamp') ? 'time' : NUMBERS.test(type) ? 'number' : type === 'boolean' ? 'boolean' : 'string';
    const read = { time: (text) => Date.parse(text.replace(' ', 'T').replace(/([+-]\d\d)$/, '$1:00')), number: Number, boolean: (text) => text === 't', string: String }[kind];
    return { name, type: kind, values: cells.map((row) => (row[index] === null ? null : read(row[index]))) };
  });
  return { refId, fields };
}

/** A table with the columns time, metric and one value as one line for each metric. */
export function byMetric(frame) {
  const [time, metric, value, ...more] = frame.fields;
  if (time?.name !== 'time' || metric?.name !== 'metric' || value?.type !== 'number' || more.length > 0) {
    throw new Error(`a chart needs the columns time, metric and one number, not ${frame.fields.map((field) => `${field.name} (${field.type})`).join(', ')}`);
  }
  const found = new Map();
  time.values.forEach((at, index) => {
    const name = metric.values[index];
    if (!found.has(name)) {
      found.set(name, { refId: frame.refId, fields: [{ name: 'Time', type: 'time', values: [] }, { name, type: 'number', values: [] }] });
    }
    const [times, numbers] = found.get(name).fields;
    times.values.push(at);
    numbers.values.push(value.values[index]);
  });
  return [...found.values()];
}

/** How many values there are to show. */
export function size(frames) {
  const shown = frames.flatMap((frame) => frame.fields).filter((field) => field.type !== 'time');
  return shown.reduce((sum, field) => sum + field.values.filter((value) => value !== null && !Number.isNaN(value)).length, 0);
}

/** Lines of comma-separated values, in which `nothing` stands for null. */
export function csv(text, nothing) {
  const all = [];
  let row = [], cell = '', quoted = false;
  const end = () => {
    row.push(cell === nothing ? null : cell);
    cell = '';
  };
  for (let index = 0; index < text.length; index++) {
    const letter = text[index];
    if (quoted && letter === '"' && text[index + 1] === '"') {
      cell += letter;
      index++;
    } else if (letter === '"') {
      quoted = !quoted;
    } else if (!quoted && letter === ',') {
      end();
    } else if (!quoted && letter === '\n') {
      end();
      all.push(row);
      row = [];
    } else {
      cell += letter;
    }
  }
  return all;
}
