// The two data sources: Prometheus by its API, Postgres by a psql that is told on the command line.

import { spawn } from 'node:child_process';

import * as answers from './answers.mjs';
import { promql, secondsBack, sql, stepOf } from './variables.mjs';

const PATIENCE_MS = 60_000;
const NOTHING = '\u2400';
const BREAK = '-- the rows --';
// About what half a desk is wide.
const PIXELS = 600;

export class Sources {
  constructor({ prometheus, psql }) {
    this.url = prometheus;
    this.command = psql;
  }

  async ask(path, parameters) {
    const url = `${this.url.replace(/\/$/, '')}/api/v1/${path}`;
    let answer;
    try {
      answer = await fetch(url, { method: 'POST', body: new URLSearchParams(parameters), signal: AbortSignal.timeout(PATIENCE_MS) });
    } catch (error) {
      throw new Error(`Prometheus does not answer at ${url}: ${error.cause?.message ?? error.message}`);
    }
    const found = await answer.json().catch(() => ({ error: `${answer.status} and no JSON` }));
    if (found.status !== 'success') {
      throw new Error(`Prometheus refuses ${parameters.query}: ${found.error}`);
    }
    return found.data.result;
  }

  /** Columns and rows of one statement. */
  async select(statement, refId) {
    const script = `SET timezone = 'UTC';\n${statement} \\gdesc\n\\echo '${BREAK}'\n${statement};\n`;
    const [described, selected] = (await this.psql(script)).split(`${BREAK}\n`);
    const [, ...columns] = answers.csv(described, NOTHING);
    const [, ...rows] = answers.csv(selected ?? '', NOTHING);
    return answers.rows(refId, columns, rows);
  }

  psql(script) {
    const [program, ...words] = this.command;
    const options = ['--no-psqlrc', '--csv', '--quiet', `--pset=null=${NOTHING}`, '--set=ON_ERROR_STOP=1'];
    return new Promise((resolve, reject) => {
      const child = spawn(program, [...words, ...options], { timeout: PATIENCE_MS });
      let out = '', said = '';
      child.stdout.setEncoding('utf8').on('data', (text) => (out += text));
      child.stderr.setEncoding('utf8').on('data', (text) => (said += text));
      child.on('error', (error) => reject(new Error(`cannot run ${program}: ${error.message}`)));
      child.on('close', (code) => (code === 0 ? resolve(out) : reject(new Error(`Postgres: ${said.trim() || `psql ended with ${code}`}`))));
      child.stdin.on('error', () => {});
      child.stdin.end(script);
    });
  }

  /** The frames of a panel, and for each query how many values it has. */
  async panel(panel, values, time) {
    const seconds = time.to - time.from;
    const least = panel.interval ? secondsBack(`now-${panel.interval}`) : 0;
    const step = Math.max(stepOf(seconds, (PIXELS * panel.gridPos.w) / 12), least);
    const found = [];
    for (const target of panel.targets) {
      if (target.rawSql) {
        const frame = await this.select(sql(target.rawSql, values, time), target.refId);
        found.push({ target, frames: target.format === 'time_series' ? answers.byMetric(frame) : [frame] });
      } else {
        found.push({ target, ...(await this.promql(target, values, { ...time, seconds, step })) });
      }
    }
    const tables = found.filter(({ result }) => result?.length > 0).length;
    for (const one of found.filter(({ result }) => result)) {
      one.frames = one.result.length > 0 ? [answers.table(one.target.refId, one.result, tables > 1)] : [];
    }
    return {
      frames: found.flatMap(({ frames }) => frames),
      queries: found.map(({ target, frames }) => ({ refId: target.refId, text: target.expr ?? target.rawSql, size: answers.size(frames) })),
    };
  }

  async promql(target, values, time) {
    const query = promql(target.expr, values, time);
    if (!target.instant) {
      // Up to now, however wide the steps are: what was begun just now is to be seen.
      const start = time.to - Math.floor(time.seconds / time.step) * time.step;
      return { frames: answers.lines(target.refId, await this.ask('query_range', { query, start, end: time.to, step: time.step }), target.legendFormat) };
    }
    const result = await this.ask('query', { query, time: time.to });
    return target.format === 'table' ? { result } : { frames: answers.values(target.refId, result, target.legendFormat) };
  }

  /** Times of what the dashboard marks: `{name, color, from, to}`. */
  async marks(annotation, values, time) {
    const { target, name, iconColor: color } = annotation;
    if (target.rawSql) {
      const frame = await this.select(sql(target.rawSql, values, time), name);
      const column = (of) => frame.fields.find((field) => field.name === of)?.values ?? [];
      return column('time').map((from, index) => ({ name, color, from, to: column('timeend')[index] ?? from }));
    }
    const seconds = time.to - time.from;
    const step = stepOf(seconds, PIXELS);
    const result = await this.ask('query_range', { query: promql(target.expr, values, { seconds, step }), start: time.from, end: time.to, step });
    const starts = new Set(result.flatMap(({ values: points }) => points.map(([, value]) => Number(value))));
    return [...starts].filter((at) => at >= time.from * 1000 && at <= time.to * 1000).map((at) => ({ name, color, from: at, to: at }));
  }

  /** The first value of `label_values(SELECTOR, LABEL)` that the variable's own expression lets through. */
  async first(variable, values, time) {
    const found = /^label_values\((.*), *(\w+)\)$/s.exec(variable.query.query);
    if (!found) {
      throw new Error(`cannot understand the query of the variable ${variable.name}: ${variable.query.query}`);
    }
    const [, selector, label] = found;
    const query = `count by (${label}) (${promql(selector, values, { seconds: time.to - time.from, step: 15 })})`;
    const all = (await this.ask('query', { query, time: time.to })).map(({ metric, value }) => [metric[label] ?? '', Number(value[1])]);
    const lets = new RegExp(variable.regex.replace(/^\/(.*)\/$/, '$1'));
    const named = all.filter(([name]) => lets.test(name)).sort((one, other) => other[1] - one[1] || one[0].localeCompare(other[0]));
    if (named.length === 0) {
      throw new Error(`there is no ${variable.name} to show`);
    }
    return named[0][0];
  }
}
