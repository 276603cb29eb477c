// node preview.mjs --root CHECKOUT --prometheus URL [OPTION...] [NAME...] -- PSQL [WORD...]: ./nexus dashboards preview runs it.
//
// Reads the dashboards' JSON, asks Prometheus and Postgres each panel's queries, lets Grafana's own packages draw the answers in
// headless Chromium, and takes a picture of each dashboard as on a desk and as on a phone. Exit codes: 0 all is drawn, 1 a
// panel is without data or something failed, 2 it was asked wrongly.

import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { build } from 'esbuild';
import { launch } from 'puppeteer-core';

import { emptyForNoReason, look } from './look.mjs';
import { Sources } from './sources.mjs';
import { secondsBack } from './variables.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const WIDTHS = { desk: 1400, phone: 390 };
const DRAWN_WITHIN_MS = 120_000;
const PANEL_DRAWN_WITHIN_MS = 30_000;
const ATTEMPTS = 3;
// Nothing on the page has changed for a while.
const SETTLED = `new Promise((done) => {
  let timer = setTimeout(done, 500);
  new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(done, 500); }).observe(document.body, { childList: true, subtree: true, attributes: true });
  setTimeout(done, 10000);
})`;
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.svg': 'image/svg+xml', '.woff2': 'font/woff2', '.woff': 'font/woff' };

function usage(message) {
  console.error(`nexus: ${message} (./nexus dashboards --help)`);
  process.exit(2);
}

function asked() {
  const split = process.argv.indexOf('--');
  const mine = process.argv.slice(2, split < 0 ? undefined : split);
  const psql = split < 0 ? [] : process.argv.slice(split + 1);
  const options = {
    root: { type: 'string' }, prometheus: { type: 'string' }, out: { type: 'string' }, from: { type: 'string' },
    host: { type: 'string' }, project: { type: 'string' }, chromium: { type: 'string' }, scale: { type: 'string', default: '1' },
  };
  let parsed;
  try {
    parsed = parseArgs({ args: mine, options, allowPositionals: true });
  } catch (error) {
    usage(error.message);
  }
  const { values, positionals } = parsed;
  if (!values.root || !values.prometheus || psql.length === 0) {
    usage('dashboards preview needs --root, --prometheus and, after --, a psql');
  }
  return { ...values, names: positionals, psql };
}

/** The page, bundled once; its dashboard is changed between pictures. */
async function serve() {
  const bundle = await build({
    entryPoints: [join(HERE, 'page.jsx')], bundle: true, write: false, outfile: join(HERE, 'page.js'), format: 'iife', jsx: 'automatic', minify: true,
    loader: { '.woff2': 'dataurl', '.woff': 'empty', '.ttf': 'empty', '.svg': 'dataurl', '.png': 'dataurl' }, logLevel: 'error',
    define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  });
  const files = new Map(bundle.outputFiles.map((file) => [`/${file.path.split('/').at(-1)}`, file.contents]));
  files.set('/', await readFile(join(HERE, 'page.html')));
  const icons = join(HERE, 'node_modules/@grafana/ui/dist/public');
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    const body = files.get(path) ?? (path.startsWith('/public/') ? await readFile(join(icons, path.slice(8).replace('build/', ''))).catch(() => null) : null);
    response.writeHead(body ? 200 : 404, { 'content-type': TYPES[extname(path)] ?? 'text/html' });
    response.end(body ?? '');
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  return { server, files, url: `http://127.0.0.1:${server.address().port}/` };
}

/** @returns what is wrong with what was drawn. */
async function picture(browser, url, width, file, scale) {
  const page = await browser.newPage();
  try {
    await page.setViewport({ width, height: 900, deviceScaleFactor: scale, isMobile: false });
    await page.goto(url);
    await page.waitForFunction('window.ready', { timeout: DRAWN_WITHIN_MS });
    await page.waitForNetworkIdle({ idleTime: 250, timeout: DRAWN_WITHIN_MS });
    // As high as it is, so that nothing is left out because it could not be seen.
    const height = await page.evaluate('document.documentElement.scrollHeight');
    await page.setViewport({ width, height, deviceScaleFactor: scale, isMobile: false });
    // What never comes is told with the rest of what is wrong. Tables measure themselves anew when the window changes, so
    // they are waited for, and looked at again behind the picture.
    let found;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await page.waitForFunction('window.undrawn().length === 0', { timeout: PANEL_DRAWN_WITHIN_MS }).catch(() => {});
      await page.evaluate(SETTLED);
      await page.screenshot({ path: file, captureBeyondViewport: false });
      found = await page.evaluate('window.looked()');
      if (found.undrawn.length === 0) {
        break;
      }
    }
    return found;
  } finally {
    await page.close();
  }
}

async function main() {
  const options = asked();
  const folder = join(options.root, 'grafana/dashboards');
  const known = (await readdir(folder)).filter((file) => file.endsWith('.json')).map((file) => file.slice(0, -5)).sort();
  const names = options.names.length > 0 ? options.names : known;
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    usage(`no dashboard is called ${JSON.stringify(unknown)}; there are ${known.join(', ')}`);
  }
  let seconds;
  try {
    seconds = options.from && secondsBack(options.from);
  } catch (error) {
    usage(error.message);
  }
  if (!(Number(options.scale) > 0)) {
    usage(`--scale is a number above 0, not ${JSON.stringify(options.scale)}`);
  }
  const chromium = options.chromium ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find(existsSync);
  if (!chromium) {
    usage('there is no Chromium: install the package chromium');
  }
  const out = options.out ?? 'previews';
  await mkdir(out, { recursive: true });
  const mayBeEmpty = JSON.parse(await readFile(join(options.root, 'grafana/may-be-empty.json'), 'utf8'));
  const sources = new Sources(options);
  const { server, files, url } = await serve();
  const browser = await launch({ executablePath: chromium, args: ['--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--disable-background-networking'] });
  const wrong = [];
  try {
    for (const name of names) {
      const dashboard = JSON.parse(await readFile(join(folder, `${name}.json`), 'utf8'));
      const chosen = { seconds: seconds || secondsBack(dashboard.time.from), variables: { host: options.host, project: options.project } };
      const seen = await look(dashboard, sources, chosen, Math.floor(Date.now() / 1000));
      for (const { title, queries } of emptyForNoReason(name, seen.panels, mayBeEmpty)) {
        wrong.push(`${name}: ${JSON.stringify(title)} has no data:${queries.map(({ refId, text }) => `\n    ${refId}: ${text}`).join('')}`);
      }
      files.set('/dashboard.json', JSON.stringify(seen));
      for (const [form, width] of Object.entries(WIDTHS)) {
        const file = join(out, `${name}-${form}.png`);
        const { problems, tooWide, undrawn } = await picture(browser, url, width, file, Number(options.scale));
        wrong.push(...problems.map((problem) => `${name} on a ${form}: ${problem}`));
        wrong.push(...undrawn.map((title) => `${name} on a ${form}: nothing is drawn in ${JSON.stringify(title)}`));
        if (tooWide) {
          wrong.push(`${name} is wider than a ${form}`);
        }
      }
      const all = seen.panels.filter(({ type }) => type !== 'row');
      const empty = all.filter(({ queries }) => queries.every(({ size }) => size === 0)).length;
      console.log(`${name}: ${all.length} panels, ${empty} of them empty: ${join(out, `${name}-{${Object.keys(WIDTHS).join(',')}}.png`)}`);
    }
  } finally {
    await browser.close();
    server.close();
    server.closeAllConnections();
  }
  for (const line of wrong) {
    console.error(`nexus: ${line}`);
  }
  return wrong.length > 0 ? 1 : 0;
}

main().then((code) => { process.exitCode = code; }, (error) => {
  console.error(`nexus: ${error.message}`);
  process.exitCode = 1;
});
