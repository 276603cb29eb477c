// Grafana's core panels are not on npm, their parts are: one thin adapter for each kind of panel that the dashboards use.
// What they show is worked out by @grafana/data: transformations, overrides, units, thresholds, words for values.

import {
  FieldConfigOptionsRegistry, applyFieldOverrides, cacheFieldDisplayNames, dateTime, getDisplayValueAlignmentFactors, getFieldDisplayValues,
  identityOverrideProcessor, locationUtil, standardTransformers, standardTransformersRegistry, toDataFrame, transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { lastValueFrom } from 'rxjs';

import { Timeline } from './timeline.jsx';

const TRANSFORMATIONS = [
  standardTransformers.mergeTransformer,
  standardTransformers.organizeFieldsTransformer,
  standardTransformers.filterFieldsByNameTransformer,
];
// What a column or a default may set. `custom.` is the panel's own.
const PROPERTIES = [
  'unit', 'decimals', 'min', 'max', 'mappings', 'thresholds', 'color', 'links', 'noValue', 'displayName', 'custom.width',
  'custom.minWidth', 'custom.cellOptions', 'custom.align', 'custom.hideFrom', 'custom.drawStyle', 'custom.lineInterpolation', 'custom.lineWidth', 'custom.fillOpacity',
  'custom.showPoints', 'custom.pointSize', 'custom.spanNulls', 'custom.axisPlacement', 'custom.axisLabel',
  'custom.scaleDistribution', 'custom.stacking', 'custom.thresholdsStyle', 'custom.lineStyle', 'custom.axisColorMode', 'custom.axisBorderShow',
  'custom.barAlignment', 'custom.axisSoftMax', 'custom.inspect', 'custom.wrapText',
];

export function prepare() {
  standardTransformersRegistry.setInit(() =>
    TRANSFORMATIONS.map((info) => ({ id: info.id, name: info.name, transformation: () => Promise.resolve(info), editor: () => null })));
  locationUtil.initialize({ config: { appSubUrl: '' }, getVariablesUrlParams: () => ({}), getTimeRangeForUrl: () => ({}) });
}

const registry = new FieldConfigOptionsRegistry(() =>
  PROPERTIES.map((id) => {
    const path = id.replace(/^custom\./, '');
    return { id, path, name: id, isCustom: id !== path, process: identityOverrideProcessor, shouldApply: () => true, getItemsCount: () => 0 };
  }));

// The page is a picture: nobody follows its links.
const replaceVariables = (text) => text;

/** The frames of a panel as Grafana hands them to the panel. */
export async function framesOf(panel, theme, timeZone) {
  for (const { id } of panel.transformations ?? []) {
    if (!TRANSFORMATIONS.some((known) => known.id === id)) {
      throw new Error(`no transformation is called ${id}`);
    }
  }
  const plain = panel.frames.map((frame) => toDataFrame({ ...frame, fields: frame.fields.map((field) => ({ config: {}, ...field })) }));
  const data = await lastValueFrom(transformDataFrame(panel.transformations ?? [], plain, { interpolate: replaceVariables }));
  const ready = applyFieldOverrides({ data, fieldConfig: panel.fieldConfig, fieldConfigRegistry: registry, replaceVariables, theme, timeZone });
  cacheFieldDisplayNames(ready);
  return ready;
}

/** Values that are drawn, times left out. */
export function shown(frames) {
  const fields = frames.flatMap((frame) => frame.fields).filter((field) => field.type !== 'time');
  return fields.reduce((sum, field) => sum + field.values.filter((value) => value !== null && value !== undefined).length, 0);
}

function displayValues({ panel, frames, theme, timeZone }) {
  return getFieldDisplayValues({ data: frames, fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables, theme, timeZone });
}

function Stat(props) {
  const { panel, width, height, theme } = props;
  const { options } = panel;
  const draw = ({ value, width, height, alignmentFactors, count }) => (
    <BigValue value={value.display} count={count} width={width} height={height} theme={theme} alignmentFactors={alignmentFactors}
      colorMode={options.colorMode} graphMode={options.graphMode} justifyMode={options.justifyMode} textMode={options.textMode} text={options.text} wideLayout={options.wideLayout} />
  );
  return <VizRepeater getValues={() => displayValues(props)} getAlignmentFactors={getDisplayValueAlignmentFactors} renderValue={draw}
    width={width} height={height} source={panel} renderCounter={0} autoGrid orientation={options.orientation} />;
}

function Bars(props) {
  const { panel, width, height, theme } = props;
  const { options } = panel;
  const draw = ({ value, width, height, alignmentFactors, orientation }) => (
    <BarGauge value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)} width={width} height={height}
      theme={theme} alignmentFactors={alignmentFactors} orientation={orientation} itemSpacing={10} displayMode={options.displayMode}
      showUnfilled={options.showUnfilled} valueDisplayMode={options.valueMode} namePlacement={options.namePlacement} />
  );
  return <VizRepeater getValues={() => displayValues(props)} getAlignmentFactors={getDisplayValueAlignmentFactors} renderValue={draw}
    width={width} height={height} source={panel} renderCounter={0} itemSpacing={10} orientation={options.orientation}
    minVizWidth={options.minVizWidth} minVizHeight={options.minVizHeight} maxVizHeight={options.maxVizHeight} />;
}

function Lines({ panel, frames, marks, time, width, height, theme, timeZone }) {
  const [from, to] = [dateTime(time.from * 1000), dateTime(time.to * 1000)];
  const draw = (builder) => {
    builder.addHook('draw', (plot) => drawMarks(plot, marks, theme));
    return null;
  };
  return (
    <TimeSeries frames={frames} timeRange={{ from, to, raw: { from, to } }} timeZone={timeZone} width={width} height={height}
      legend={panel.options.legend} options={panel.options}>{draw}</TimeSeries>
  );
}

/** Marks as Grafana draws them: a dashed line, and a bar below for what lasted. */
function drawMarks(plot, marks, theme) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const { from, to, color } of marks) {
    const [left, right] = [plot.valToPos(from, 'x', true), plot.valToPos(to, 'x', true)];
    ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(color);
    ctx.lineWidth = 1;
    ctx.setLineDash([4, 4]);
    ctx.globalAlpha = 0.8;
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
    ctx.globalAlpha = 0.1;
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
  }
  ctx.restore();
}

function Table({ panel, frames, time, width, height }) {
  const [from, to] = [dateTime(time.from * 1000), dateTime(time.to * 1000)];
  return <TableNG data={frames[0]} width={width} height={height} cellHeight={panel.options.cellHeight} noValue={panel.fieldConfig.defaults.noValue}
    fieldConfig={panel.fieldConfig} timeRange={{ from, to, raw: { from, to } }} sortBy={panel.options.sortBy} enableVirtualization={false} disableKeyboardEvents structureRev={1} />;
}

/** By the name that the JSON gives. `fills`: what it shows without data is drawn by itself. */
export const adapters = {
  stat: { draw: Stat, fills: true },
  bargauge: { draw: Bars, fills: true },
  timeseries: { draw: Lines },
  'state-timeline': { draw: Timeline },
  table: { draw: Table },
};
