// What Grafana does with a query before it sends it: times, steps, variables and macros. Pure.

const UNITS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800, M: 2592000, y: 31536000 };
// Of Prometheus here (prometheus/prometheus.yml, and jsonData.timeInterval of the data source).
const SCRAPE_INTERVAL = 15;
// Steps that people can read off an axis, in seconds.
const STEPS = [15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** Seconds of `now-24h`. */
export function secondsBack(from) {
  const found = /^now-(\d+)([smhdwMy])$/.exec(from);
  if (!found || found[1] === '0') {
    throw new Error(`cannot understand the time ${JSON.stringify(from)}: it is like now-6h`);
  }
  return Number(found[1]) * UNITS[found[2]];
}

/** The step of a line that is drawn on so many pixels. */
export function stepOf(seconds, pixels) {
  const least = seconds / pixels;
  return STEPS.find((step) => step >= least) ?? STEPS.at(-1);
}

/** A query of Prometheus with everything put in. `values` are regular expressions by the variable's name. */
export function promql(text, values, { seconds, step }) {
  const all = {
    ...values,
    __rate_interval: `${Math.max(step + SCRAPE_INTERVAL, 4 * SCRAPE_INTERVAL)}s`,
    __interval: `${step}s`,
    __range: `${seconds}s`,
  };
  return text.replace(/\$\{?(\w+)\}?/g, (whole, name) => known(all, name, whole));
}

/** The same for Postgres. */
export function sql(text, values, { from, to }) {
  const time = (at) => `'${new Date(at * 1000).toISOString()}'`;
  const filtered = text.replace(/\$__timeFilter\(([^)]*)\)/g, (_, column) => `${column} BETWEEN ${time(from)} AND ${time(to)}`).replaceAll('$__timeFrom()', () => time(from)).replaceAll('$__timeTo()', () => time(to));
  return filtered.replace(/\$\{?(\w+)(?::\w+)?\}?/g, (whole, name) => known(values, name, whole)).trim();
}

function known(values, name, whole) {
  if (!Object.hasOwn(values, name)) {
    throw new Error(`nobody knows ${whole}`);
  }
  return values[name];
}

/** A legend like `{{device}} read`, filled in; without one, the labels. */
export function legend(format, labels) {
  if (!format || format === '__auto') {
    return Object.entries(labels).filter(([name]) => name !== '__name__').map(([name, value]) => `${name}="${value}"`).join(', ') || 'Value';
  }
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '');
}
