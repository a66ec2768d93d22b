// Figures come alive as they are scrolled to: plotly.js is loaded then, from beside this file.
// Without JavaScript the pictures stay.

const home = new URL("plotly.min.js", document.currentScript.src);
let plotly;

function library() {
  plotly ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = home;
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  });
  return plotly;
}

const dark = () => document.body.dataset.mdColorScheme === "slate";

/** Texts, axes and grounds in the page's colours; labels that have a ground keep theirs. */
function tinted({ data, layout }) {
  if (!dark()) return { data, layout };
  const [ink, grid, clear] = ["#d8dbe6", "#4a4e5f", "rgba(0,0,0,0)"];
  const axis = { gridcolor: grid, linecolor: grid, tickcolor: grid, zerolinecolor: grid };
  for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key)))
    layout[name] = { ...layout[name], ...axis };
  for (const note of layout.annotations ?? [])
    if (!note.bgcolor) note.font = { ...note.font, color: ink };
  const font = { ...layout.font, color: ink };
  return { data, layout: { ...layout, font, paper_bgcolor: clear, plot_bgcolor: clear } };
}

/** A figure that is wider than its column is drawn as it is, and shrunk. */
function fit(holder, drawn) {
  const { width, height } = drawn._fullLayout;
  const scale = Math.min(1, holder.clientWidth / width);
  drawn.style.cssText = `width:${width}px;transform:scale(${scale});transform-origin:0 0`;
  holder.style.height = `${height * scale}px`;
}

async function enliven(holder) {
  await library();
  const figure = tinted(JSON.parse(holder.querySelector("script").textContent));
  const drawn = holder.querySelector(".live") ?? document.createElement("div");
  drawn.className = "live";
  holder.append(drawn);
  await Plotly.newPlot(drawn, figure.data, figure.layout, { displaylogo: false });
  holder.classList.add("alive");
  fit(holder, drawn);
}

const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      enliven(target);
    }
  },
  { rootMargin: "600px" },
);

document.querySelectorAll(".figure").forEach((holder) => seen.observe(holder));
const alive = () => document.querySelectorAll(".figure.alive");
addEventListener("resize", () => {
  for (const holder of alive()) fit(holder, holder.querySelector(".live"));
});
new MutationObserver(() => alive().forEach(enliven)).observe(document.body, {
  attributeFilter: ["data-md-color-scheme"],
});
