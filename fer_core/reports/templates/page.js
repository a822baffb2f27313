(() => {
  const list = document.getElementById("clips");
  if (!list) return;
  const rows = [...list.children], find = document.getElementById("find"), shown = document.getElementById("shown");
  const buttons = [...document.querySelectorAll("[data-key]")];
  let key = "order", down = false;
  const order = (a, b) => {
    const x = a.dataset[key], y = b.dataset[key];
    const sign = key === "order" || key === "confidence" ? x - y : x.localeCompare(y, undefined, { numeric: true });
    return (down ? -sign : sign) || a.dataset.order - b.dataset.order;
  };
  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const text = `${row.dataset.clip} ${row.dataset.emotion} ${row.dataset.status.replace("_", " ")}`.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      n += !row.hidden;
    }
    shown.textContent = words.length ? `${n} of ${rows.length}` : "";
  };
  for (const button of buttons)
    button.addEventListener("click", () => {
      down = button.dataset.key === key ? !down : button.dataset.key === "confidence";
      key = button.dataset.key;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      button.dataset.down = String(down);
      list.append(...rows.sort(order));
    });
  find.addEventListener("input", filter);
})();
