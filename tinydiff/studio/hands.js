// One hand: controls on top, an easel where there is something to paint, pictures, one line below.

function hand(model, el) {
  const spec = model.get("spec");
  const panel = make("div", "td-controls"), table = make("div", "td-table");
  const rows = make("div", "td-rows"), note = make("p", "td-note"), error = make("p", "td-error");
  error.setAttribute("role", "alert");
  el.append(panel, table, note, error);
  const changed = controls(model, panel);
  if (spec.easel) {
    const side = make("div", "td-side");
    table.append(side);
    easel(model, side, changed);
  }
  table.append(rows);
  if (spec.saves.length) el.insertBefore(saver(model), note);
  const show = () => {
    const answer = model.get("answer");
    showRows(rows, answer.rows, spec.title);
    note.textContent = answer.note;
    error.textContent = answer.error;
    error.hidden = !answer.error;
    el.classList.toggle("td-wrong", Boolean(answer.error));
  };
  model.on("change:answer", show);
  show();
}

// A name and two buttons; what is there already is replaced only when asked twice.
function saver(model) {
  const box = make("div", "td-saver"), name = make("input"), said = make("output");
  Object.assign(name, { type: "text", value: "drawn", size: 16, spellcheck: false });
  name.setAttribute("aria-label", "name of the file");
  box.append(make("span", "td-label", "save as"), name);
  let asked = "";
  for (const suffix of model.get("spec").saves) {
    const button = make("button", "", suffix.toUpperCase());
    button.type = "button";
    button.onclick = () => {
      const file = `${name.value.trim()}.${suffix}`;
      model.send({ name: file, replace: asked === file });
    };
    box.append(button);
  }
  box.append(said);
  name.oninput = () => { asked = ""; said.textContent = ""; };
  model.on("msg:custom", (message) => {
    asked = message.asks ? message.name : "";
    said.textContent = message.text;
  });
  return box;
}

function render({ model, el }) {
  el.classList.add("td-hand");
  el.addEventListener("keydown", (event) => event.stopPropagation()); // they are not for the page
  (model.get("spec").kind === "plane" ? plane : hand)(model, el);
}

export default { render };
