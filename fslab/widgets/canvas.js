/** Draws the figure of a Canvas, greys it while it is of another state, and tells of the pointer. */

const NARROWEST = 320, WIDEST = 1400;
const HOVER_EVERY = 60; // milliseconds: more would queue before a busy kernel

async function unpacked(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const text = await new Response(stream).text();
  // A module of its own, where no loader of the page takes plotly for one of its own modules.
  const head = "const module = {exports: {}}, exports = module.exports, define = undefined;\n";
  const parts = [head, text, "\nexport default module.exports;"];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  try {
    return (await import(url)).default;
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Return plotly.js, loaded once for all canvases of the page. */
function plotly(model) {
  globalThis.fslabPlotly ??= (async () => {
    const id = model.get("library").replace("IPY_MODEL_", "");
    const library = await model.widget_manager.get_model(id);
    return unpacked(library.get("packed"));
  })().catch((error) => {
    globalThis.fslabPlotly = undefined; // the next canvas tries again
    throw error;
  });
  return globalThis.fslabPlotly;
}

/** Return a function that is called with the newest arguments, at most once in so many ms. */
function calmed(call, every) {
  let timer = null, newest = null;
  return (...given) => {
    newest = given;
    timer ??= setTimeout(() => { timer = null; call(...newest); }, every);
  };
}

class View {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    el.classList.add("fslab-canvas");
    this.tools = document.createElement("div");
    this.tools.className = "fslab-tools";
    this.tools.setAttribute("role", "toolbar");
    this.plot = document.createElement("div");
    this.plot.className = "fslab-plot";
    el.append(this.tools, this.plot);
    this.drag = undefined; // what dragging does: plotly's dragmode
    this.busy = this.again = this.closed = false;
    this.paint = this.paint.bind(this);
    this.mark = this.mark.bind(this);
    model.on("change:drawing", this.paint);
    model.on("change:wanted", this.mark);
    this.measure = calmed(() => this.measured(), 80);
    this.watcher = new ResizeObserver(this.measure);
    this.watcher.observe(el);
    this.theme = new MutationObserver(this.paint); // letters are of the page's colour
    this.theme.observe(document.body, { attributeFilter: ["data-jp-theme-name"] });
    this.mark();
    this.paint();
    model.send({ kind: "opened", serial: this.read()?.serial ?? 0 });
  }

  read() {
    const text = this.model.get("drawing");
    return text ? JSON.parse(text) : null;
  }

  room() {
    return Math.min(Math.max(Math.floor(this.el.clientWidth), NARROWEST), WIDEST);
  }

  /** Tell how much room there is; until the answer comes, the drawing is brought to it as it is. */
  measured() {
    if (this.closed || !this.el.clientWidth) return;
    if (this.room() !== this.model.get("width")) {
      this.model.set("width", this.room());
      this.model.save_changes();
    }
    if (this.shown && this.shown.figure.layout.width !== this.room()) this.paint();
  }

  /** Grey the figure unless it is what was asked for last. */
  mark() {
    const stale = !this.shown || this.shown.move !== this.model.get("wanted");
    this.el.classList.toggle("fslab-stale", stale);
  }

  /** Draw the newest drawing; of those that come meanwhile only the last is drawn. */
  async paint() {
    if (this.busy) { this.again = true; return; }
    this.busy = true;
    try {
      this.library ??= await plotly(this.model);
      do {
        this.again = false;
        const drawing = this.read();
        if (drawing && !this.closed) await this.show(drawing);
      } while (this.again);
    } finally {
      this.busy = false;
    }
  }

  async show(drawing) {
    const { data, layout } = drawing.figure;
    this.drag ??= layout.dragmode;
    this.fit(layout);
    const ink = getComputedStyle(this.el).color;
    const look = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: this.drag,
      font: { ...layout.font, color: ink }, uirevision: "zoom", selectionrevision: drawing.serial,
    };
    const config = { displayModeBar: false, doubleClick: "reset" };
    const first = !this.shown;
    await this.library.react(this.plot, data, { ...layout, ...look }, config);
    this.paper = { paper_bgcolor: layout.paper_bgcolor, plot_bgcolor: layout.plot_bgcolor,
      font: layout.font };
    this.shown = drawing;
    if (first) { this.listen(); this.equip(); }
    this.mark();
    if (this.model.get("painted") !== drawing.serial) {
      this.model.set("painted", drawing.serial);
      this.model.save_changes();
    }
  }

  fit(layout) {
    if (!this.el.clientWidth) return;
    const scale = this.room() / layout.width;
    layout.height = Math.round(layout.height * scale);
    layout.width = this.room();
  }

  listen() {
    const tell = (kind, event) => {
      const points = (event?.points ?? []).map((point) => ({
        trace: point.curveNumber, index: point.pointIndex ?? point.pointNumber,
        x: point.x, y: point.y,
      }));
      this.model.send({ kind, serial: this.shown.serial, points });
    };
    const pointing = calmed(tell, HOVER_EVERY);
    this.plot.on("plotly_click", (event) => tell("click", event));
    this.plot.on("plotly_hover", (event) => pointing("hover", event));
    this.plot.on("plotly_unhover", (event) => pointing("unhover", event));
    this.plot.on("plotly_selected", (event) => event && tell("selection", event));
    this.plot.on("plotly_deselect", () => tell("deselect", null));
  }

  /** Make the buttons: what dragging does, the whole picture again, and the figure as a file. */
  equip() {
    const modes = this.shown.select ? ["lasso", "select", "zoom"] : ["zoom"];
    const words = { lasso: "lasso", select: "box", zoom: "zoom" };
    this.modes = new Map(modes.map((mode) => [mode, this.button(words[mode], () => this.use(mode))]));
    this.press();
    this.button("whole figure", () => this.whole());
    for (const format of ["svg", "png"]) {
      this.button(`save ${format.toUpperCase()}`, () => this.save(format));
    }
  }

  button(words, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = words;
    made.addEventListener("click", act);
    this.tools.append(made);
    return made;
  }

  use(mode) {
    this.drag = this.drag === mode ? false : mode;
    this.press();
    this.library.relayout(this.plot, { dragmode: this.drag });
  }

  press() {
    for (const [mode, made] of this.modes) made.setAttribute("aria-pressed", this.drag === mode);
  }

  /** Undo all zooming. */
  whole() {
    const { layout } = this.read().figure, wanted = {}; // plotly writes into what it is given
    for (const name of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      if (layout[name].range) wanted[`${name}.range`] = [...layout[name].range];
      else wanted[`${name}.autorange`] = layout[name].autorange ?? true;
    }
    this.library.relayout(this.plot, wanted);
  }

  /** Save what is seen as a file, on white paper. */
  save(format) {
    const { width, height } = this.plot.layout;
    const figure = { data: this.plot.data, layout: { ...this.plot.layout, ...this.paper } };
    const options = { format, width, height, filename: this.shown.name || "figure" };
    return this.library.downloadImage(figure, { ...options, scale: format === "png" ? 2 : 1 });
  }

  close() {
    this.closed = true;
    this.watcher.disconnect();
    this.theme.disconnect();
    this.model.off("change:drawing", this.paint);
    this.model.off("change:wanted", this.mark);
    if (this.shown) this.library.purge(this.plot);
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    return () => view.close();
  },
};
