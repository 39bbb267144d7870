// Rows of pictures: each picture is a canvas of its own pixels, enlarged by the style sheet.

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function paintPixels(canvas, rgb, width, height) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    image.data.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Canvases are kept from answer to answer, so that nothing flickers.
function showRows(box, rows, title) {
  while (box.children.length > rows.length) box.lastChild.remove();
  rows.forEach((row, i) => {
    let section = box.children[i];
    if (!section) {
      section = make("section", "td-row");
      section.append(make("div", "td-row-label"), make("div", "td-row-pictures"));
      box.append(section);
    }
    const [label, line] = section.children, [N, H, W] = row.shape, rgb = bytes(row.pixels);
    label.textContent = row.label;
    label.hidden = !row.label;
    line.style.setProperty("--width", `${W * row.scale}px`);
    line.style.setProperty("--columns", row.columns);
    while (line.children.length > N) line.lastChild.remove();
    for (let n = 0; n < N; n++) {
      if (!line.children[n]) {
        const figure = make("figure"), canvas = make("canvas");
        canvas.setAttribute("role", "img");
        figure.append(canvas, make("figcaption"));
        line.append(figure);
      }
      const [canvas, caption] = line.children[n].children, text = row.captions[n] || "";
      paintPixels(canvas, rgb.subarray(n * H * W * 3, (n + 1) * H * W * 3), W, H);
      canvas.setAttribute("aria-label", [title, row.label, text || n + 1].filter(Boolean).join(", "));
      caption.textContent = text;
      caption.hidden = !text;
    }
  });
}
