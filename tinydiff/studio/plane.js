// The plane: data to click, the score field, and particles on their way. t is moved here, without
// the kernel: an answer holds all paths, and the field at many times.

const PLANE = 560; // units of the canvas along each side

function plane(model, el) {
  const panel = make("div", "td-controls"), stage = make("div", "td-stage");
  const canvas = make("canvas", "td-plane"), bar = make("div", "td-time");
  const play = make("button", "td-play", "▶ play"), slider = make("input"), said = make("output");
  const note = make("p", "td-note"), error = make("p", "td-error");
  const hint = make("p", "td-note", "Click to put data, drag for more; click a point to remove it.");
  const context = canvas.getContext("2d"), sharp = Math.min(2, window.devicePixelRatio || 1);
  canvas.width = canvas.height = PLANE * sharp;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label",
    "the plane: arrow keys move the cross, Enter puts a point there or takes it away");
  play.type = "button";
  Object.assign(slider, { type: "range", min: 0, step: "any" });
  slider.setAttribute("aria-label", "time t");
  error.setAttribute("role", "alert");
  bar.append(play, slider, said);
  stage.append(canvas, bar, hint, note);
  el.append(panel, stage, error);
  const changed = controls(model, panel);

  let t = 0, timer = null, walk = {}, cross = null;
  const reach = () => walk.reach || 3;
  const toX = (x) => ((x / reach() + 1) / 2) * PLANE, toY = (y) => ((1 - y / reach()) / 2) * PLANE;
  const numbers = (view) => new Int16Array(view.buffer.slice(view.byteOffset,
    view.byteOffset + view.byteLength));

  const take = () => {
    const answer = model.get("answer");
    note.textContent = answer.note;
    error.textContent = answer.error;
    error.hidden = !answer.error;
    el.classList.toggle("td-wrong", Boolean(answer.error));
    if (!answer.paths) return;
    walk = { ...answer, paths: numbers(answer.paths), field: numbers(answer.field) };
    slider.max = walk.times[0];
    t = Math.min(t, walk.times[0]);
    draw();
  };

  // --- drawing ---
  const colours = () => {
    const ink = getComputedStyle(el).color.match(/[\d.]+/g) || [0, 0, 0]; // light on a dark page
    return ink.slice(0, 3).reduce((a, b) => a + Number(b), 0) > 384
      ? { particle: "#8ec5ff", path: "rgba(142, 197, 255, 0.22)", arrow: "180, 190, 205",
        data: "#ffb454", glow: [214, 130, 40], ground: "#15181d", line: "#fff" }
      : { particle: "#1f5fae", path: "rgba(31, 95, 174, 0.2)", arrow: "95, 105, 120",
        data: "#d9731a", glow: [240, 160, 80], ground: "#fbfaf7", line: "#222" };
  };

  // the density of noisy data at t: the mean of one round Gaussian per shrunken point
  const mist = make("canvas"), fine = 96;
  mist.width = mist.height = fine;
  const glow = (colour) => {
    const ab = walk.alpha_bar[Math.round(t)], root = Math.sqrt(ab);
    const means = walk.cloud ? [walk.cloud.mean] : walk.points;
    const sd = Math.max(0.06, Math.sqrt(1 - ab + (walk.cloud ? ab * walk.cloud.var : 0)));
    const along = Array.from({ length: fine }, (_, i) => reach() * ((2 * i + 1) / fine - 1));
    const bell = (mean) => along.map((v) => Math.exp(-0.5 * ((v - root * mean) / sd) ** 2));
    const density = new Float32Array(fine * fine);
    for (const [x, y] of means) {
      const across = bell(x), down = bell(-y);
      for (let i = 0; i < fine; i++) {
        if (down[i] < 1e-4) continue;
        for (let j = 0; j < fine; j++) density[i * fine + j] += down[i] * across[j];
      }
    }
    const most = density.reduce((a, b) => Math.max(a, b), 1e-9), image = new ImageData(fine, fine);
    density.forEach((d, i) => image.data.set([...colour, 150 * (d / most)], 4 * i));
    mist.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.drawImage(mist, 0, 0, PLANE, PLANE);
  };

  // arrows: -eps_hat, the score times the noise's standard deviation; long ones are shortened
  const arrows = (colour) => {
    const { field, moments, across } = walk, cell = PLANE / (across + 1);
    let m = 0;
    for (let i = 1; i < moments.length; i++) {
      if (Math.abs(moments[i] - t) < Math.abs(moments[m] - t)) m = i;
    }
    context.lineWidth = 1.1;
    for (let i = 0; i < across * across; i++) {
      const k = 2 * (m * across * across + i), u = field[k] / 4096, v = -field[k + 1] / 4096;
      const size = Math.hypot(u, v);
      if (size < 0.02) continue;
      const long = (0.86 * cell * size) / (size + 0.8), dx = (u / size) * long, dy = (v / size) * long;
      const x = ((i % across) + 1) * cell - dx / 2;
      const y = PLANE - (Math.floor(i / across) + 1) * cell - dy / 2;
      context.strokeStyle = `rgba(${colour}, ${0.25 + 0.5 * (size / (size + 1))})`;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + dx, y + dy);
      context.lineTo(x + 0.68 * dx - 0.2 * dy, y + 0.68 * dy + 0.2 * dx);
      context.moveTo(x + dx, y + dy);
      context.lineTo(x + 0.68 * dx + 0.2 * dy, y + 0.68 * dy - 0.2 * dx);
      context.stroke();
    }
  };

  const draw = () => {
    if (!walk.paths) return;
    const { times, paths, n } = walk, colour = colours();
    context.setTransform(sharp, 0, 0, sharp, 0, 0);
    context.fillStyle = colour.ground;
    context.fillRect(0, 0, PLANE, PLANE);
    glow(colour.glow);
    arrows(colour.arrow);

    let k = 0; // the last visited time that is not below t; particles are between k and k + 1
    while (k < times.length - 1 && times[k + 1] >= t) k++;
    const share = k < times.length - 1 ? (times[k] - t) / (times[k] - times[k + 1]) : 0;
    const at = (i, j) => paths[2 * (i * n + j)] / 4096, up = (i, j) => paths[2 * (i * n + j) + 1] / 4096;
    const next = Math.min(k + 1, times.length - 1), here = [];
    const walks = Math.ceil(6000 / times.length); // the paths of more would hide the plane
    context.strokeStyle = colour.path;
    context.lineWidth = 1;
    context.beginPath();
    for (let j = 0; j < n; j++) {
      const x = toX(at(k, j) + share * (at(next, j) - at(k, j)));
      const y = toY(up(k, j) + share * (up(next, j) - up(k, j)));
      here.push([x, y]);
      if (j >= walks) continue;
      context.moveTo(toX(at(0, j)), toY(up(0, j)));
      for (let i = 1; i <= k; i++) context.lineTo(toX(at(i, j)), toY(up(i, j)));
      context.lineTo(x, y);
    }
    context.stroke();
    const dot = (x, y, r) => {
      context.moveTo(x + r, y);
      context.arc(x, y, r, 0, 2 * Math.PI);
    };
    context.fillStyle = colour.data;
    context.strokeStyle = colour.ground;
    context.lineWidth = 1.5;
    context.beginPath();
    for (const [x, y] of walk.points) dot(toX(x), toY(y), 5);
    context.fill();
    context.stroke();
    context.fillStyle = colour.particle;
    context.beginPath();
    for (const [x, y] of here) dot(x, y, 2.4);
    context.fill();
    if (cross) {
      const [x, y] = [toX(cross[0]), toY(cross[1])];
      context.strokeStyle = colour.line;
      context.beginPath();
      context.moveTo(x - 9, y);
      context.lineTo(x + 9, y);
      context.moveTo(x, y - 9);
      context.lineTo(x, y + 9);
      context.stroke();
    }
    slider.value = t;
    const level = Math.round(t);
    said.textContent = `t = ${level}`;
    slider.setAttribute("aria-valuetext", `t = ${level}`);
  };

  // --- time ---
  const stop = () => {
    cancelAnimationFrame(timer);
    timer = null;
    play.textContent = "▶ play";
  };
  const start = () => {
    if (t <= 0) t = walk.times[0];
    let before = performance.now();
    play.textContent = "❚❚ pause";
    const tick = (now) => {
      if (!el.isConnected) return stop();
      t = Math.max(0, t - ((now - before) / 5000) * walk.times[0]); // five seconds for all
      before = now;
      draw();
      timer = t > 0 ? requestAnimationFrame(tick) : stop();
    };
    timer = requestAnimationFrame(tick);
  };
  play.onclick = () => (timer ? stop() : start());
  slider.oninput = () => { stop(); t = Number(slider.value); draw(); };

  // --- data ---
  let points = null, dragged = false;
  const place = (event) => {
    const rect = canvas.getBoundingClientRect();
    const x = (event.clientX - rect.left) / rect.width, y = (event.clientY - rect.top) / rect.height;
    return [(2 * x - 1) * reach(), (1 - 2 * y) * reach()].map((v) => Math.round(v * 1000) / 1000);
  };
  const near = (list, [x, y], within) => list.findIndex(([a, b]) => Math.hypot(a - x, b - y) < within);
  const put = (next) => {
    points = next;
    walk.points = next; // seen at once; the paths follow when they are computed
    walk.cloud = null;
    draw();
    changed("points", next);
  };
  const now = () => model.get("values").points;
  const toggle = (here) => {
    const hit = near(now(), here, 0.12);
    if (hit < 0) return put([...now(), here]);
    if (now().length > 1) put(now().filter((_, i) => i !== hit));
  };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    cross = null;
    dragged = true;
    toggle(place(event));
  };
  canvas.onpointermove = (event) => {
    if (!dragged || !points || points.length >= 400) return;
    const here = place(event);
    if (near(points, here, 0.16) < 0) put([...points, here]);
  };
  canvas.onpointerup = canvas.onpointercancel = () => { dragged = false; points = null; };
  canvas.onkeydown = (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (step[event.key]) {
      const limit = (v) => Math.max(-reach(), Math.min(reach(), Math.round(v * 10) / 10));
      cross = (cross || [0, 0]).map((v, i) => limit(v + 0.1 * step[event.key][i]));
      draw();
    } else if (event.key === "Enter" || event.key === " ") {
      toggle(cross || [0, 0]);
    } else return;
    event.preventDefault();
  };
  canvas.onblur = () => { cross = null; draw(); };

  model.on("change:answer", take);
  requestAnimationFrame(take); // then it is in the page, and knows whether that is dark
}
