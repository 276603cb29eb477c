// The page: one dashboard as Grafana lays it out, side by side on a desk, one below the other on a phone.

import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';

import { createTheme, ThemeContext } from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { GlobalStyles, PanelChrome, PortalContainer } from '@grafana/ui';
import { Component } from 'react';
import { createRoot } from 'react-dom/client';

import { adapters, framesOf, prepare, shown } from './panels.jsx';

const [COLUMNS, CELL, GAP] = [24, 30, 8];
// Below it Grafana stacks panels (theme.breakpoints.md).
const PHONE = 769;
const MARGIN = 16;

window.__grafana_public_path__ = '/public/';
const problems = [];
window.addEventListener('error', (event) => problems.push(String(event.error ?? event.message)));
window.addEventListener('unhandledrejection', (event) => problems.push(String(event.reason)));

const theme = createTheme({ colors: { mode: 'dark' } });
const timeZone = 'utc';

class Guard extends Component {
  state = { error: null };
  static getDerivedStateFromError(error) {
    return { error };
  }
  componentDidCatch(error) {
    problems.push(`the panel ${JSON.stringify(this.props.title)}: ${error.stack}`);
  }
  render() {
    return this.state.error ? <pre>{String(this.state.error)}</pre> : this.props.children;
  }
}

function place({ gridPos: { x, y, w, h } }, width, phone) {
  const cell = (width + GAP) / COLUMNS;
  const height = h * (CELL + GAP) - GAP;
  return phone ? { width, height } : { left: x * cell, top: y * (CELL + GAP), width: w * cell - GAP, height };
}

function Panel({ panel, box, dashboard }) {
  const { draw: Draw, fills } = adapters[panel.type];
  const nothing = shown(panel.ready) === 0;
  return (
    <PanelChrome title={panel.title} description={panel.description} width={box.width} height={box.height} padding={panel.type === 'table' ? 'none' : 'md'}>
      {(width, height) => (
        <Guard title={panel.title}>
          {nothing && !fills
            ? <div className="nothing" style={{ width, height }}>{panel.fieldConfig.defaults.noValue}</div>
            : (
              <div className="drawing" style={{ width, height }}>
                <Draw panel={panel} frames={panel.ready} marks={dashboard.marks} time={dashboard.time} width={width} height={height} theme={theme} timeZone={timeZone} />
              </div>
            )}
        </Guard>
      )}
    </PanelChrome>
  );
}

function Dashboard({ dashboard }) {
  const phone = window.innerWidth < PHONE;
  const width = window.innerWidth - 2 * MARGIN;
  const bottom = Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h));
  const when = (at) => new Date(at * 1000).toISOString().slice(0, 16).replace('T', ' ');
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <header>
        <h1>{dashboard.title}</h1>
        {dashboard.variables.map(({ label, value }) => <span className="variable" key={label}><b>{label}</b>{value}</span>)}
        <span className="variable"><b>UTC</b>{when(dashboard.time.from)} to {when(dashboard.time.to)}</span>
      </header>
      <main style={{ width, ...(phone ? {} : { position: 'relative', height: bottom * (CELL + GAP) }) }}>
        {dashboard.panels.map((panel) => {
          const box = place(panel, width, phone);
          const style = phone ? { ...box, marginBottom: GAP } : { position: 'absolute', ...box };
          return (
            <section key={panel.id} id={`panel-${panel.id}`} style={style}>
              {panel.type === 'row' ? <h2>{panel.title}</h2> : <Panel panel={panel} box={box} dashboard={dashboard} />}
            </section>
          );
        })}
      </main>
      <PortalContainer />
    </ThemeContext.Provider>
  );
}

let dashboard;

async function start() {
  await initPluginTranslations('nexus-dashboards-preview');
  prepare();
  dashboard = await (await fetch('/dashboard.json')).json();
  await document.fonts.load('14px Inter');
  for (const panel of dashboard.panels.filter(({ type }) => type !== 'row')) {
    panel.ready = await framesOf(panel, theme, timeZone);
  }
  createRoot(document.getElementById('root')).render(<Dashboard dashboard={dashboard} />);
}

/** Panels of which nothing is drawn yet. */
function undrawn(panels) {
  const marks = { table: '[role="gridcell"]', timeseries: 'canvas', stat: 'span', bargauge: 'span' };
  const awaited = panels.filter(({ type, ready }) => marks[type] && (shown(ready) > 0 || adapters[type].fills));
  const seen = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && element.getBoundingClientRect().height > 0;
  return awaited.filter(({ id, type }) => ![...document.querySelectorAll(`#panel-${id} .drawing ${marks[type]}`)].some(seen)).map(({ title }) => title);
}

/** For who takes the picture. */
window.undrawn = () => (problems.length > 0 ? [] : undrawn(dashboard.panels));
window.looked = () => ({ problems, undrawn: undrawn(dashboard?.panels ?? []), tooWide: document.documentElement.scrollWidth > window.innerWidth });

start().then(() => { window.ready = true; }, (error) => {
  problems.push(error.stack);
  window.ready = true;
});
