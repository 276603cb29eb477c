// From a dashboard's JSON and the data sources to what the page draws.

/** @returns {Promise<object>} the dashboard with `data` in each panel, `marks`, `values`, `time`. */
export async function look(dashboard, sources, chosen, now) {
  const seconds = chosen.seconds;
  const time = { from: now - seconds, to: now };
  const values = {};
  for (const variable of dashboard.templating.list) {
    const said = chosen.variables[variable.name];
    values[variable.name] = said ?? (variable.includeAll ? variable.allValue : await sources.first(variable, values, time));
  }
  const panels = [];
  for (const panel of dashboard.panels) {
    try {
      panels.push(panel.type === 'row' ? panel : { ...panel, ...(await sources.panel(panel, values, time)) });
    } catch (error) {
      throw new Error(`the panel ${JSON.stringify(panel.title)}: ${error.message}`);
    }
  }
  const marks = [];
  for (const annotation of dashboard.annotations.list.filter(({ target }) => target)) {
    marks.push(...(await sources.marks(annotation, values, time)));
  }
  return { uid: dashboard.uid, title: dashboard.title, description: dashboard.description, variables: shown(dashboard, values), panels, marks, time };
}

function shown(dashboard, values) {
  return dashboard.templating.list.map(({ name, label, allValue }) => ({ label: label ?? name, value: values[name] === allValue ? 'All' : values[name] }));
}

/** Panels that show nothing, though nothing says that they may: `[{title, queries}]`. */
export function emptyForNoReason(name, panels, mayBeEmpty) {
  return panels
    .filter((panel) => panel.type !== 'row' && panel.queries.every(({ size }) => size === 0))
    .filter((panel) => !mayBeEmpty.some((list) => list.panels[name]?.includes(panel.title)))
    .map(({ title, queries }) => ({ title, queries: queries.map(({ refId, text }) => ({ refId, text })) }));
}
