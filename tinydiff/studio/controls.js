// The controls of a hand. Each is a label with an input; `changed(name, value)` hears of a move.

const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};

const shown = (value, step) => {
  const digits = (String(step).split(".")[1] || "").length;
  return Number(value).toFixed(digits);
};

const SILENCE = "No answer yet: the kernel is busy, or it was restarted: then run the cell again.";

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

const CONTROLS = {
  slider(spec, changed) {
    const input = make("input"), number = make("output");
    Object.assign(input, { type: "range", min: spec.low, max: spec.high, step: spec.step });
    input.oninput = () => {
      number.textContent = shown(input.value, spec.step);
      changed(spec.name, Number(input.value));
    };
    const set = (value) => {
      input.value = value;
      number.textContent = shown(value, spec.step);
    };
    return { parts: [input, number], set };
  },

  choice(spec, changed) {
    const input = make("select");
    for (const [text] of spec.options) input.append(new Option(text));
    const own = new Option("your own"); // what was painted or clicked is none of the list
    own.hidden = true;
    input.append(own);
    input.onchange = () => changed(spec.name, spec.options[input.selectedIndex][1]);
    const set = (value) => {
      const i = spec.options.findIndex((o) => same(o[1], value));
      input.selectedIndex = i < 0 ? spec.options.length : i;
    };
    return { parts: [input], set };
  },

  dice(spec, changed) {
    const button = make("button", "", spec.label), number = make("output");
    let value = spec.value;
    button.type = "button";
    button.onclick = () => changed(spec.name, value + 1);
    const set = (next) => {
      value = next;
      number.textContent = `${spec.name} ${next}`;
    };
    return { parts: [button, number], set };
  },

  colours(spec, changed) {
    const box = make("span", "td-pickers");
    let list = [];
    const set = (next) => {
      if (box.contains(document.activeElement) && next.length === list.length) return (list = next);
      list = next;
      box.replaceChildren(...list.map((colour, i) => {
        const input = make("input");
        Object.assign(input, { type: "color", value: colour, title: `colour ${i + 1}` });
        input.setAttribute("aria-label", `${spec.label} ${i + 1}`);
        input.oninput = () => changed(spec.name, list.map((c, k) => (k === i ? input.value : c)));
        return input;
      }));
      const button = (text, title, next) => {
        const node = make("button", "td-small", text);
        Object.assign(node, { type: "button", title, onclick: () => changed(spec.name, next()) });
        node.setAttribute("aria-label", title);
        box.append(node);
      };
      if (list.length < spec.most) button("+", "one more colour", () => [...list, "#888888"]);
      if (list.length) button("−", "one colour less", () => list.slice(0, -1));
      return list;
    };
    return { parts: [box], set };
  },
};

// Lay the controls out in a grid; keep them as the model's values say.
function controls(model, box) {
  const sets = {}, silence = make("p", "td-error", SILENCE);
  let waiting = null;
  const changed = (name, value) => {
    model.set("values", { ...model.get("values"), [name]: value });
    model.save_changes();
    waiting = waiting || setTimeout(() => box.after(silence), 6000);
  };
  model.on("change:answer", () => {
    clearTimeout(waiting);
    waiting = null;
    silence.remove();
  });
  for (const spec of model.get("spec").controls) {
    const { parts, set } = CONTROLS[spec.kind](spec, changed);
    const line = make(spec.kind === "choice" || spec.kind === "slider" ? "label" : "div",
      `td-control td-${spec.kind}`);
    if (spec.kind !== "dice") line.append(make("span", "td-label", spec.label));
    line.append(...parts);
    if (spec.hint) line.title = spec.hint;
    box.append(line);
    sets[spec.name] = set;
  }
  const refresh = () => {
    for (const [name, set] of Object.entries(sets)) set(model.get("values")[name]);
  };
  refresh();
  model.on("change:values", refresh);
  return changed;
}
