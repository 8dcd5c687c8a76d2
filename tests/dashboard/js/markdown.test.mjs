// The parser of Markdown by itself: what is said, in whatever pieces it comes; linear, whatever it is.

import assert from "node:assert/strict";
import { test } from "node:test";

const answers = new URL("../../../gateway/dashboard/static/answers/", import.meta.url);
const { Blocks } = await import(new URL("blocks.js", answers));
const { inline } = await import(new URL("inline.js", answers));

class Tree {
  root = [];
  boxes = [this.root];
  block = null;
  enter(kind, { ordered, start }) {
    const box = [ordered ? `${kind} from ${start}` : kind];
    this.boxes.at(-1).push(box);
    this.boxes.push(box);
  }
  leave() {
    this.boxes.pop();
  }
  begin(kind, { level, language }) {
    this.block = [`${kind}${level ?? ""}${language ? ` ${language}` : ""}`, ""];
    this.boxes.at(-1).push(this.block);
  }
  add(text) {
    this.block[1] += text;
  }
  end() {}
  retract() {
    this.boxes.at(-1).pop();
  }
  table(head, aligns) {
    this.block = ["table", aligns, head];
    this.boxes.at(-1).push(this.block);
  }
  row(cells) {
    this.block.push(cells);
  }
}

function parsed(text, size = Infinity) {
  const tree = new Tree();
  const blocks = new Blocks(tree);
  for (let at = 0; at < text.length; at += size) blocks.feed(text.slice(at, at + size));
  blocks.finish();
  assert.equal(tree.boxes.length, 1);
  return tree.root;
}

const CASES = {
  "# A\n## B ##\ntext\nmore": [["heading1", "A"], ["heading2", "B ##"], ["paragraph", "text\nmore"]],
  "- a\n  - b\n- c": [["list", ["item", ["paragraph", "a"], ["list", ["item", ["paragraph", "b"]]]], ["item", ["paragraph", "c"]]]],
  "3. a\n\n   b\n4. c": [["list from 3", ["item", ["paragraph", "a"], ["paragraph", "b"]], ["item", ["paragraph", "c"]]]],
  "1. a\n   ```py\n   x\n\n     y\n   ```\n2. b": [["list from 1", ["item", ["paragraph", "a"], ["code py", "x\n\n  y"]], ["item", ["paragraph", "b"]]]],
  "```\n<b>\n~~~\n````\nx": [["code", "<b>\n~~~"], ["paragraph", "x"]],
  "~~~js\nnever closed": [["code js", "never closed"]],
  "```inline``` x": [["paragraph", "```inline``` x"]],
  "> a\nlazy\n> > b\n\nc": [["quote", ["paragraph", "a\nlazy"], ["quote", ["paragraph", "b"]]], ["paragraph", "c"]],
  "| a | b |\n|:-:|--:|\n| `x|y` | \\| | z |\n\nc": [["table", ["center", "end"], ["a", "b"], ["`x|y`", "|"]], ["paragraph", "c"]],
  "a | b\nno | table": [["paragraph", "a | b\nno | table"]],
  "a\n\n---\n* * *": [["paragraph", "a"], ["rule", ""], ["rule", ""]],
  "In\n1985. it was\n2) so": [["paragraph", "In\n1985. it was\n2) so"]],
  "a\r\n\r\nb\r\n": [["paragraph", "a"], ["paragraph", "b"]],
  "<script>\n</script>": [["paragraph", "<script>\n</script>"]],
};

test("blocks are what they are, in whatever pieces they come", () => {
  for (const [text, wanted] of Object.entries(CASES)) {
    assert.deepEqual(parsed(text), wanted, text);
    for (const size of [1, 2, 3, 5, 8]) assert.deepEqual(parsed(text, size), wanted, `${text} by ${size}`);
  }
});

const short = (items) => items.map((item) => ("text" in item ? (item.type === "code" ? `\`${item.text}\`` : item.text) : `<${item.type}${item.href ? ` ${item.href}` : ""}>${short(item.children)}</>`)).join("");

const LINES = {
  "a **b *c* d** e": "a <strong>b <em>c</> d</> e",
  "***x***": "<em><strong>x</></>",
  "snake_case_name 2 * 3 * 4": "snake_case_name 2 * 3 * 4",
  "~~a~~ ~b~ \\*c\\*": "<del>a</> ~b~ *c*",
  "`a*b*` ``c ` d``": "`a*b*` `c ` d`",
  "[a](https://b.example/(c)_d \"e\")": "<link https://b.example/(c)_d>a</>",
  "![a](https://b.example/c.png)": "<link https://b.example/c.png>a (picture)</>",
  "see https://a.example/b_(c).": "see <link https://a.example/b_(c)>https://a.example/b_(c)</>.",
  "<mailto:a@b.example> <b>": "<link mailto:a@b.example>mailto:a@b.example</> <b>",
  "[a](javascript:alert(1))": "[a](javascript:alert(1))",
  "[a](/b) [c](//d) [e](data:text/html,f) [g](java\tscript:h)": "[a](/b) [c](//d) [e](data:text/html,f) [g](java\tscript:h)",
  "[a [b](https://c.example) d](https://e.example)": "<link https://e.example/>a b d</>",
};

test("lines are what they are, and no address runs anything", () => {
  for (const [text, wanted] of Object.entries(LINES)) assert.equal(short(inline(text)), wanted, text);
});

test("what is open at the end of a growing line is shown as if it were closed", () => {
  assert.equal(short(inline("a **b", true)), "a <strong>b</>");
  assert.equal(short(inline("a `b", true)), "a `b`");
  assert.equal(short(inline("a **b")), "a **b");
});

const HUGE = ["*a ", "`", "[", "](", "[](", "[a]((", "*_`[~~", "http://", "<http://a", "a]", "\\*", "> ", "- ", "1. ", "|", "#", "\n", "\t", "a", "> a\n", "|a|b|\n|-|-|\n"];

test("a megabyte of anything takes time in proportion to its size", () => {
  for (const piece of HUGE) {
    const text = piece.repeat(Math.ceil(1_000_000 / piece.length));
    const began = performance.now();
    parsed(text, 2048);
    inline(text);
    assert.ok(performance.now() - began < 10_000, `${piece}: ${performance.now() - began} ms`);
  }
});
