// A list of any length with as many elements as there is room for: each row has
// the same height, and the elements of rows that leave above or below are used
// again for those that come.
//
//   grid (scrolls) ─► rows (as high as all rows) ─► some 40 elements, each moved
//                                                   to the place of its row

const SPARE = 4; // rows beyond each edge, so that scrolling shows no empty ones
const GROWTH = 60; // ms; nobody reads rows that are replaced sooner, and each time costs a layout

export class VirtualList {
  #nodes = [];
  #frame = 0;
  #timer = 0;
  #rendered = 0; // when
  #scrolled = 0; // where the list itself has scrolled to last
  #base = 0;

  // view is a Store. make returns an element for rows, fill(element, row) writes
  // a row into one: it is called again only when the element gets another row,
  // or after refresh(true). onFollow tells that scrolling has changed follow.
  constructor({ grid, rows, view, make, fill, onFollow }) {
    Object.assign(this, { grid, rows, view, make, fill, onFollow });
    this.follow = true; // stay at the end as rows come
    this.selected = null; // number of a row
    this.height = 0;
    new ResizeObserver(() => requestAnimationFrame(() => this.#measure())).observe(grid);
    this.#measure();
    grid.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    grid.addEventListener("wheel", (event) => event.deltaY < 0 && this.#setFollow(false), { passive: true });
  }

  // refresh shows what has changed in the view, with the next frame. all fills
  // every element anew.
  refresh(all = false) {
    if (all) for (const node of this.#nodes) node.shown = undefined;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render();
    });
  }

  // grow shows rows that were added, soon.
  grow() {
    if (this.#frame || this.#timer) return;
    const wait = this.#rendered + GROWTH - performance.now();
    if (wait <= 0) {
      this.refresh();
      return;
    }
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.refresh();
    }, wait);
  }

  // reveal scrolls so far that row n can be seen.
  reveal(n) {
    const top = (this.view.placeOf(n) - this.view.hidden) * this.height;
    const head = this.rows.offsetTop;
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (top + this.height + head > this.grid.scrollTop + this.grid.clientHeight) {
      this.grid.scrollTop = top + this.height + head - this.grid.clientHeight;
    }
    this.refresh();
  }

  // page is how many rows there is room for.
  get page() {
    return Math.max(1, Math.floor((this.grid.clientHeight - this.rows.offsetTop) / this.height));
  }

  #measure() {
    this.height = parseFloat(getComputedStyle(this.grid).getPropertyValue("--row")) || 28;
    const count = Math.ceil(this.grid.clientHeight / this.height) + 2 * SPARE;
    while (this.#nodes.length < count) {
      const node = this.make();
      this.#nodes.push(node);
      this.rows.append(node);
    }
    while (this.#nodes.length > count) this.#nodes.pop().remove();
    this.refresh(true);
  }

  #setFollow(follow) {
    if (follow === this.follow) return;
    this.follow = follow;
    this.onFollow(follow);
  }

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.grid;
    this.refresh();
    if (Math.abs(scrollTop - this.#scrolled) < 2) return; // the list's own doing
    const atEnd = scrollHeight - scrollTop - clientHeight < this.height;
    if (scrollTop < this.#scrolled) this.#setFollow(false);
    else if (atEnd && this.selected === null) this.#setFollow(true);
    this.#scrolled = scrollTop;
  }

  #render() {
    this.#rendered = performance.now();
    const { view, height } = this;
    const total = `${view.length * height}px`;
    if (this.rows.style.height !== total) this.rows.style.height = total;
    if (this.follow) {
      this.grid.scrollTop = view.length * height;
      this.#scrolled = this.grid.scrollTop;
    } else if (view.hidden > this.#base && this.grid.scrollTop > 0) {
      // Rows went from the front: what is looked at stays where it is.
      this.grid.scrollTop -= (view.hidden - this.#base) * height;
      this.#scrolled = this.grid.scrollTop;
    }
    this.#base = view.hidden;
    const from = Math.max(0, Math.floor(this.grid.scrollTop / height) - SPARE);
    let active = "";
    const count = this.#nodes.length;
    for (let i = 0; i < count; i++) {
      const place = view.hidden + from + i;
      const node = this.#nodes[place % count];
      const row = view.at(place);
      if (row === undefined) {
        if (!node.hidden) node.hidden = true;
        node.shown = undefined;
        continue;
      }
      const move = `translateY(${(from + i) * height}px)`;
      if (node.style.transform !== move) node.style.transform = move;
      if (node.shown !== row) {
        node.shown = row;
        node.id = `row-${row.n}`;
        this.fill(node, row);
      }
      const index = from + i + 2; // the first is the row of headings
      if (node.rowIndex !== index) node.setAttribute("aria-rowindex", (node.rowIndex = index));
      const selected = row.n === this.selected;
      if (node.selected !== selected) node.setAttribute("aria-selected", (node.selected = selected));
      if (selected) active = node.id;
      if (node.hidden) node.hidden = false;
    }
    const said = this.grid.getAttribute("aria-activedescendant") ?? "";
    if (active !== said) {
      if (active === "") this.grid.removeAttribute("aria-activedescendant");
      else this.grid.setAttribute("aria-activedescendant", active);
    }
    this.grid.setAttribute("aria-rowcount", view.length + 1);
  }
}
