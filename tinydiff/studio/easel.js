// The easel: a small picture that is painted pixel by pixel, with mouse, finger or keys.
// Its pixels are one string, six hexadecimal digits each; "" means that nothing is painted yet.

const SIDE = 20; // pixels of the screen for one of the picture

function easel(model, box, changed) {
  const spec = model.get("spec").easel, n = spec.size;
  const canvas = make("canvas", "td-easel"), tools = make("div", "td-tools");
  const context = canvas.getContext("2d");
  canvas.width = canvas.height = n * SIDE;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `${spec.label}: arrow keys move, space paints`);
  box.append(canvas, tools);

  const blank = () => Array(n * n).fill(spec.blank);
  const which = () => model.get("values")[spec.key]; // of several drawings, if there are several
  const drawings = () => model.get("values")[spec.name];
  const read = () => {
    const drawing = spec.key ? drawings()[which()] : drawings();
    return (drawing || "").match(/.{6}/g) || blank();
  };
  const inks = () => {
    const own = spec.follows ? model.get("values")[spec.follows] : [];
    return [...own.map((c) => ({ colour: c.slice(1), label: c })), ...spec.inks];
  };
  let cells = read(), ink = (inks()[0] || { colour: "000000" }).colour, size = 1, at = [n >> 1, n >> 1];
  let last = null, past = [], keys = false, lying = which();

  const draw = () => {
    const ground = model.get("answer").ground;
    const under = ground && bytes(ground);
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < n * n; i++) {
      const x = (i % n) * SIDE, y = Math.floor(i / n) * SIDE;
      const own = cells[i] !== spec.blank;
      context.fillStyle = under && (spec.hatched || !own)
        ? `rgb(${under[3 * i]}, ${under[3 * i + 1]}, ${under[3 * i + 2]})` : `#${cells[i]}`;
      context.fillRect(x, y, SIDE, SIDE);
      if (under && own) (spec.hatched ? hatch : pin)(x, y);
    }
    context.strokeStyle = "rgba(128, 128, 128, 0.25)";
    context.lineWidth = 1;
    context.beginPath();
    for (let i = 1; i < n; i++) {
      context.moveTo(i * SIDE, 0);
      context.lineTo(i * SIDE, n * SIDE);
      context.moveTo(0, i * SIDE);
      context.lineTo(n * SIDE, i * SIDE);
    }
    context.stroke();
    if (keys) {
      context.strokeStyle = "#e08a1e";
      context.lineWidth = 3;
      context.strokeRect(at[0] * SIDE + 1.5, at[1] * SIDE + 1.5, SIDE - 3, SIDE - 3);
    }
  };

  // what is to be drawn anew is white with stripes, visible on every colour
  const hatch = (x, y) => {
    context.fillStyle = "rgba(255, 255, 255, 0.8)";
    context.fillRect(x, y, SIDE, SIDE);
    context.strokeStyle = "rgba(0, 0, 0, 0.45)";
    context.lineWidth = 1.5;
    context.beginPath();
    for (const shift of [0, SIDE / 2]) {
      context.moveTo(x + shift, y + SIDE);
      context.lineTo(x + SIDE, y + shift);
      context.moveTo(x, y + SIDE - shift);
      context.lineTo(x + SIDE - shift, y);
    }
    context.stroke();
  };

  // what is painted over a picture that is drawn around it: a small ring in the middle
  const pin = (x, y) => {
    context.strokeStyle = "rgba(128, 128, 128, 0.9)";
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(x + SIDE / 2, y + SIDE / 2, 3, 0, 2 * Math.PI);
    context.stroke();
  };

  const send = () => {
    const drawing = cells.join("");
    changed(spec.name, spec.key ? { ...drawings(), [which()]: drawing } : drawing);
  };
  const dab = (x, y) => {
    for (let dy = 0; dy < size; dy++) {
      for (let dx = 0; dx < size; dx++) {
        const [cx, cy] = [x + dx - (size >> 1), y + dy - (size >> 1)];
        if (cx >= 0 && cy >= 0 && cx < n && cy < n) cells[cy * n + cx] = ink;
      }
    }
  };
  const line = ([x0, y0], [x1, y1]) => {
    const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1);
    for (let i = 0; i <= steps; i++) {
      dab(Math.round(x0 + ((x1 - x0) * i) / steps), Math.round(y0 + ((y1 - y0) * i) / steps));
    }
  };
  const remember = () => { past = [...past.slice(-30), [...cells]]; };
  const place = (event) => {
    const rect = canvas.getBoundingClientRect();
    const along = (v, side) => Math.min(n - 1, Math.max(0, Math.floor((v / side) * n)));
    return [along(event.clientX - rect.left, rect.width), along(event.clientY - rect.top, rect.height)];
  };

  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    remember();
    keys = false;
    last = place(event);
    dab(...last);
    draw();
    send();
  };
  canvas.onpointermove = (event) => {
    if (!last) return;
    const here = place(event);
    if (here[0] === last[0] && here[1] === last[1]) return;
    line(last, here);
    last = here;
    draw();
    send();
  };
  canvas.onpointerup = canvas.onpointercancel = () => { last = null; };
  canvas.onkeydown = (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (step[event.key]) {
      at = at.map((v, i) => Math.min(n - 1, Math.max(0, v + step[event.key][i])));
    } else if (event.key === " " || event.key === "Enter") {
      remember();
      dab(...at);
      send();
    } else return;
    keys = true;
    event.preventDefault();
    draw();
  };
  canvas.onblur = () => { keys = false; draw(); };

  // --- inks and tools ---
  const swatches = make("span", "td-swatches");
  const showInks = () => {
    swatches.replaceChildren(...inks().map(({ colour, label }) => {
      const named = spec.hatched || colour === spec.blank && !/^[0-9a-f]/.test(colour);
      const button = make("button", "td-swatch", named ? label : "");
      if (!named) button.style.background = `#${colour}`;
      Object.assign(button, { type: "button", title: label });
      button.setAttribute("aria-label", label);
      button.setAttribute("aria-pressed", colour === ink);
      button.onclick = () => { ink = colour; showInks(); };
      return button;
    }));
    if (spec.any) {
      const input = make("input");
      const known = /^[0-9a-f]/.test(ink) ? `#${ink}` : "#888888";
      Object.assign(input, { type: "color", value: known, title: "any colour" });
      input.setAttribute("aria-label", "any colour");
      input.oninput = () => { ink = input.value.slice(1); };
      input.onchange = showInks;
      swatches.append(input);
    }
  };
  const tool = (text, act) => {
    const button = make("button", "", text);
    Object.assign(button, { type: "button", onclick: act });
    tools.append(button);
    return button;
  };
  tools.append(swatches);
  const brush = tool("thin", () => {
    size = (size % 3) + 1;
    brush.textContent = ["thin", "medium", "thick"][size - 1];
  });
  brush.title = "width of the brush";
  const put = (next) => { cells = next; draw(); send(); };
  tool("undo", () => { if (past.length) put(past.pop()); });
  tool("clear", () => { remember(); put(blank()); });

  model.on("change:values", () => {
    const next = read(); // another view, or another letter
    if (which() !== lying) past = [];
    else if (!last && !same(next, cells)) remember();
    if (which() !== lying || !last) cells = next;
    lying = which();
    showInks();
    draw();
  });
  model.on("change:answer", draw);
  showInks();
  draw();
}
