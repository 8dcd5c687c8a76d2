// @ts-check
/** Blanks and cells of one line of Markdown. */

/** Where the blanks from `at` on end, and how many columns they are. @param {string} line @param {number} at */
export function width(line, at) {
  let columns = 0;
  let end = at;
  for (; line[end] === " " || line[end] === "\t"; end++) columns += line[end] === "\t" ? 4 - (columns % 4) : 1;
  return { columns, end };
}

/** Pass over at most so many columns of blanks. @param {string} line @param {number} at @param {number} most */
export function skip(line, at, most) {
  let columns = 0;
  while (columns < most && (line[at] === " " || line[at] === "\t")) columns += line[at++] === "\t" ? 4 - (columns % 4) : 1;
  return at;
}

/** The cells of a row; `\|` and bars in code are text. @param {string} row @returns {string[]} */
export function cells(row) {
  const found = [];
  let cell = "";
  let inCode = false;
  const text = row.trim().replace(/^\|/, "");
  for (let at = 0; at < text.length; at++) {
    const each = text[at];
    if (each === "\\" && text[at + 1] === "|") {
      cell += "|";
      at++;
    } else if (each === "|" && !inCode) {
      found.push(cell.trim());
      cell = "";
    } else {
      if (each === "`") inCode = !inCode && text.indexOf("`", at + 1) > 0;
      cell += each;
    }
  }
  if (cell.trim() || !text.endsWith("|")) found.push(cell.trim());
  return found;
}
