(() => {
  const $ = (id) => document.getElementById(id);
  const { classes, batch, model, version, rows: facts } = JSON.parse($("facts").textContent);
  const rest = JSON.parse($("rest").textContent);
  const list = $("clips"), drawn = list.children.length, PAGE = 100;
  const rows = facts.map(([clip, status, emotion, confidence, abstained, label, match, digest], order) =>
    ({ clip, status, emotion, confidence, abstained, label, match, digest, order }));
  // A server of this page has no films: they lie where they were scored, outside the folder of the page.
  const served = location.protocol !== "file:";
  const unlinked = (element) => {
    if (served) element.querySelectorAll("a.source").forEach((link) => link.replaceWith(...link.childNodes));
    return element;
  };
  const elements = new Map([...list.children].map((element, order) => [order, unlinked(element)]));
  const maker = document.createElement("template");

  // The text of a row was escaped when the page was written, and the page's policy runs no script in it.
  const elementOf = (row) => {
    let element = elements.get(row.order);
    if (!element) {
      maker.innerHTML = rest[row.order - drawn];
      element = unlinked(maker.content.querySelector("li"));
      elements.set(row.order, element);
    }
    return element;
  };

  // --- the list: filtered, sorted, and drawn a page at a time
  let key = "order", down = false, shown = rows, n = drawn;
  const number = (id, otherwise) => ($(id).value === "" ? otherwise : Number($(id).value) / 100);
  const chosen = (id) => ($(id) ? $(id).value : "");
  const wanted = () => {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdict = chosen("verdict"), status = chosen("status"), match = chosen("match");
    const least = number("least", -2), most = number("most", 2);
    return (row) =>
      words.every((word) => row.clip.toLowerCase().includes(word)) &&
      (!verdict || (row.emotion || "none") === verdict) &&
      (!status || (status === "abstained" ? row.abstained && row.emotion : row.status === status)) &&
      (!match || row.match === match) &&
      row.confidence >= least && row.confidence <= most;
  };
  const order = (a, b) => {
    const x = a[key], y = b[key];
    const sign = typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true });
    return (down ? -sign : sign) || a.order - b.order;
  };
  const more = () => {
    const end = Math.min(n + PAGE, shown.length);
    list.append(...shown.slice(n, end).map(elementOf));
    n = end;
  };
  const draw = () => {
    shown = rows.filter(wanted()).sort(order);
    list.replaceChildren();
    n = 0;
    more();
    $("shown").textContent = shown.length === rows.length ? "" : `${shown.length} of ${rows.length}`;
  };
  const end = document.createElement("div");
  list.after(end);
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && n < shown.length && more(), {
    rootMargin: "1500px",
  }).observe(end);
  for (const id of ["find", "verdict", "status", "match", "least", "most"]) $(id)?.addEventListener("input", draw);
  const buttons = [...document.querySelectorAll("[data-key]")];
  for (const button of buttons)
    button.addEventListener("click", () => {
      down = button.dataset.key === key ? !down : button.dataset.key === "confidence";
      key = button.dataset.key;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      button.dataset.down = String(down);
      draw();
    });

  // --- the desk: a person says what each clip shows, the most doubtful clips first
  const store = `ferflow-review-${batch}`;
  const kept = () => { try { return JSON.parse(localStorage.getItem(store)) || {}; } catch { return {}; } };
  const keep = () => { try { localStorage.setItem(store, JSON.stringify({ who: $("who").value, answers })); } catch { /* private window */ } };
  const { answers = {}, who = "" } = kept();
  $("who").value = who;
  const queue = rows.filter((row) => row.emotion).sort((a, b) =>
    b.abstained - a.abstained || a.confidence - b.confidence || a.order - b.order);
  const UNCLEAR = "";  // the label of a clip that cannot be told
  let place = 0;

  const interval = (right, total) => {  // Wilson, 95 %
    const z = 1.959964, p = right / total, d = 1 + (z * z) / total;
    const mid = (p + (z * z) / (2 * total)) / d, half = (z / d) * Math.sqrt((p * (1 - p)) / total + (z * z) / (4 * total * total));
    return [Math.max(0, mid - half), Math.min(1, mid + half)].map((v) => (100 * v).toFixed(0));
  };
  const count = () => {
    const told = Object.entries(answers).filter(([, answer]) => answer.label !== UNCLEAR);
    const right = told.filter(([order, answer]) => rows[order].emotion === answer.label).length;
    const [low, high] = told.length ? interval(right, told.length) : [0, 100];
    $("count").textContent = `${Object.keys(answers).length} of ${queue.length} reviewed` +
      (told.length ? `; the verdict was right on ${right} of ${told.length}: ${(100 * right / told.length).toFixed(0)} % [${low}, ${high}]. These are the doubtful ones, not the batch` : "");
  };
  const film = (element) => {
    const link = element.querySelector("a.source")  /* not the film with the verdicts drawn in, which would lead the answer */, frame = $("film");
    frame.replaceChildren();
    if (!link) {
      if (served) frame.textContent = "Films are not served; open this page from its folder to see them.";
      return;
    }
    if (link.getAttribute("href").endsWith("/")) { frame.textContent = "This clip is a folder of frames; its name opens it."; return; }
    const video = document.createElement("video");
    Object.assign(video, { src: link.getAttribute("href"), controls: true, muted: true, loop: true, autoplay: true });
    video.setAttribute("aria-label", `film of ${queue[place].clip}`);
    video.addEventListener("error", () => { frame.textContent = "This browser does not play the film; its name links it."; });
    frame.append(video);
  };
  const show = () => {
    const row = queue[place], element = elementOf(row).cloneNode(true);
    const answer = answers[row.order];
    $("stage").replaceChildren(element);
    film(element);
    for (const button of $("answers").children)
      button.setAttribute("aria-pressed", String(answer !== undefined && button.dataset.label === answer.label));
    $("desk").dataset.place = String(place);
    count();
  };
  const go = (step) => { place = Math.max(0, Math.min(queue.length - 1, place + step)); show(); };
  const say = (label) => {
    answers[queue[place].order] = { label, when: new Date().toISOString().replace(/\.\d+/, "") };
    keep();
    const next = queue.findIndex((row, i) => i > place && !(row.order in answers));
    if (next >= 0) place = next;
    show();
  };
  const takeBack = () => { delete answers[queue[place].order]; keep(); show(); };
  const cell = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const safe = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);  // no formula in a spreadsheet
  const save = () => {
    if (!$("who").value.trim()) { $("saved").textContent = "Enter your name first: the manifest keeps who said so."; $("who").focus(); return; }
    const lines = [["clip", "clip_digest", "label", "verdict", "confidence", "who", "when", "model", "model_version"]];
    for (const row of queue) {
      const answer = answers[row.order];
      if (answer) lines.push([safe(row.clip), row.digest, answer.label, row.emotion, String(row.confidence), safe($("who").value.trim()), answer.when, model, version]);
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.map((line) => line.map(cell).join(",") + "\r\n").join("")], { type: "text/csv" }));
    link.download = "corrections.csv";
    link.click();
    URL.revokeObjectURL(link.href);
    keep();
    $("saved").textContent = `${lines.length - 1} rows saved`;
  };
  const open = (on) => {
    $("desk").hidden = !on;
    list.hidden = on;
    document.querySelector(".tools").hidden = on;
    if (!on) { $("film").replaceChildren(); $("review").focus(); return; }
    const next = queue.findIndex((row) => !(row.order in answers));
    place = next >= 0 ? next : 0;
    show();
    if (!$("who").value) $("who").focus();
    $("desk").scrollIntoView();
  };
  const answer = (label, text, shortcut) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.label = label;
    button.className = label ? `c-${label}` : "";
    button.append(document.createElement("kbd"), ` ${text}`);
    button.firstChild.textContent = shortcut;
    button.addEventListener("click", () => say(label));
    $("answers").append(button);
  };
  classes.forEach((label, i) => answer(label, label, i < 9 ? String(i + 1) : ""));
  answer(UNCLEAR, "cannot be told", "0");
  if (queue.length) {
    $("review").hidden = false;
    $("review").addEventListener("click", () => open(true));
    $("leave").addEventListener("click", () => open(false));
    $("save").addEventListener("click", save);
    $("who").addEventListener("input", keep);
    document.addEventListener("keydown", (event) => {
      if ($("desk").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target === $("who")) { if (event.key === "Enter") $("who").blur(); return; }
      const act = {
        Enter: () => say(queue[place].emotion), ArrowRight: () => go(1), ArrowLeft: () => go(-1), 0: () => say(UNCLEAR),
        Backspace: takeBack, s: save, S: save, Escape: () => open(false),
      }[event.key] || (/^[1-9]$/.test(event.key) && classes[event.key - 1] && (() => say(classes[event.key - 1])));
      if (!act || (event.key === "Enter" && event.target.tagName === "A")) return;
      event.preventDefault();
      act();
    });
  }
})();
