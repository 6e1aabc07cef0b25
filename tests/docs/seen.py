"""What a reader would see as a fault of a page, found by a browser that has it open."""

from __future__ import annotations

# A function of JavaScript: whether to read the text too, or only to measure, to the faults found.
# `α*` is a symbol, and a `*` behind an interval marks it: no stray asterisks. Shown sources keep their own width.
FAULTS = r"""(reading) => {
    const found = [];
    const tell = (fault, text) => found.push(`${fault}: ${String(text).trim().replace(/\s+/g, " ").slice(0, 100)}`);
    const main = document.querySelector(".md-content") ?? document.querySelector("main") ?? document.body;
    for (const details of main.querySelectorAll("details")) details.open = true;

    const inOneLine = (node, pattern, fault) => {
        for (const match of node.data.matchAll(pattern)) {
            const range = document.createRange();
            range.setStart(node, match.index);
            range.setEnd(node, match.index + match[0].length);
            const tops = [...range.getClientRects()].filter(r => r.width > 0).map(r => Math.round(r.top / 4));
            if (new Set(tops).size > 1) tell(fault, match[0]);
        }
    };
    const texts = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
    let page = "";
    while (texts.nextNode()) {
        const node = texts.currentNode, parent = node.parentElement;
        if (!node.data.trim() || parent.getClientRects().length === 0) continue;
        const code = parent.closest("pre, code");
        if (parent.closest("td, th") && !parent.closest(".highlighttable, [popover]")) {
            if (code) inOneLine(node, /\S+/g, "code breaks in a table");
            else inOneLine(node, /(?<![\w-])[−+-]?\d[\d.,]*(?:e[−+-]?\d+)?/g, "number breaks in a table");
            if (/^[−+\d]/.test(node.data)) inOneLine(node, /\d[\d.,]* ± [\d.,]+/g, "number breaks in a table");
        }
        if (!code && /[-−]0\.0+(?!\d)/.test(node.data)) tell("minus zero", node.data);
        page += code || parent.closest("math, svg, style, script, .doc-signature") ? "§" : node.data;
    }
    const around = (match) => page.slice(Math.max(0, match.index - 40), match.index + 40);
    if (reading) {
        const markup =
            /\]\(|`|:::|\{ ?[#.:]|<!--|-->|\.\. math|:math:|\|-{3}|={5,}|^ *(?:\?\?\?|!!!) |<\/?[a-z]+>|&[a-z]+;/m;
        const raw = page.match(markup);
        if (raw) tell("raw markup", around(raw));
        const star = page.match(/\*\*|(?<![α\w)\]])\*(?=\S)|(?<=[^\sα(\]])\*(?![\w.,;:)\s=])/);
        if (star) tell("stray asterisk", around(star));
        for (const link of document.querySelectorAll('a[href^="#"]')) {
            const id = decodeURIComponent(link.getAttribute("href").slice(1));
            if (id && !document.getElementById(id)) tell("dead anchor", link.outerHTML);
        }
        for (const code of main.querySelectorAll("pre > code")) {
            if (code.closest(".source, .doc")) continue;
            for (const line of code.innerText.split("\n")) if ([...line].length > 84) tell("wide code", line);
        }
    }

    // Nothing reaches beyond the window, but for what scrolls in a box that does not.
    const over = document.documentElement.scrollWidth - innerWidth;
    if (over > 0) tell("the page scrolls sideways", `${over} px`);
    const boxed = element => {
        for (let e = element.parentElement; e && e !== document.body; e = e.parentElement)
            if (/auto|scroll/.test(getComputedStyle(e).overflowX) && e.getBoundingClientRect().right <= innerWidth + 1)
                return true;
        return false;
    };
    for (const element of main.querySelectorAll("*")) {
        const box = element.getBoundingClientRect();
        if (box.width === 0 || box.right <= innerWidth + 1 || element.closest("svg svg, [popover]")) continue;
        if (!boxed(element)) {
            tell("cut off", `<${element.localName} class="${element.getAttribute("class")}"> ${element.textContent}`);
            break;
        }
    }
    return found;
}"""
