// Texts that are hard to split into words: for the comparison of tokens with llama.cpp's. The same ones in every run.

import { Random } from "../random.mjs";

const SEED = 20_261_126;

/** Prose, in many scripts. */
const PROSE = [
  "The quick brown fox jumps over the lazy dog; it didn't care.",
  "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich – Straße, Größe.",
  "Le cœur déçu mais l’âme plutôt naïve, Louÿs rêva de crapaüter en canoë.",
  "¿Dónde está el niño? ¡Mañana por la mañana!",
  "Příliš žluťoučký kůň úpěl ďábelské ódy. Zażółć gęślą jaźń.",
  "Pijamalı hasta, yağız şoföre çabucak güvendi. İstanbul'da, Ankara'ya.",
  "Съешь же ещё этих мягких французских булок, да выпей чаю.",
  "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ὀδυσσεύς ᾧ",
  "דג סקרן שט בים מאוכזב ולפתע מצא חברה שָׁלוֹם",
  "نص حكيم له سر قاطع، وذو شأن عظيم؟ مَرْحَبًا",
  "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा। नमस्ते १२३",
  "আমি বাংলায় গান গাই। ৪৫৬",
  "யாமறிந்த மொழிகளிலே தமிழ்மொழி போல்",
  "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ๑๒๓",
  "ສະບາຍດີ ຊາວໂລກ", "សួស្តី​ពិភពលោក", "မင်္ဂလာပါ ကမ္ဘာလောက",
  "いろはにほへと ちりぬるを、カタカナとひらがな。東京都１２３",
  "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张！「你好」",
  "다람쥐 헌 쳇바퀴에 타고파. 가나다라 ㄱㄴㄷ",
  "ქართული ანბანი. Ⴀⴀ Ა", "Հայերեն այբուբեն։", "ሰላም ልዑል ።", "Ꭰ ꭰ ᏸ Ᏸ", "ߒߞߏ ߀߁߂", "བོད་ཡིག། ༡༢", "𐐀𐐨 𐓀 𐲀𐳀 𑢠𑣀 𞤀𞤢", "𝒜𝓫𝟙𝟚 ℵ ℝ Ⅷ ⅷ Ⓐ ⓐ", "ʰʷ ˈpʰoʊ ǅ ǈ ªº ﬁ ﬀ ﬓ Ａｂ",
];

/** Code and markup. */
const CODE = [
  "fn main() {\n    println!(\"{:>5}\", x[i] as f32);\n}",
  "def f(a, *args, **kw):\n\treturn a if a != 0x1F else None  # TODO\n\n\nclass A:\n    pass\n",
  "for (let i=0;i<10;++i){a[i]+=b?.c??d;}",
  "SELECT * FROM `t` WHERE a<>'b' AND c>=1e-5;",
  "#include <stdio.h>\r\nint main(void){return 0;}\r\n",
  "<div class=\"a b\"><h1>T&amp;C</h1><br/></div>",
  "<table><tr><td>1</td></tr></table>",
  "https://example.com/a/b?c=d&e=%20#f user@mail.org C:\\Temp\\x.txt",
  "a->b::c<d>() && !e || f ^ g ~h $i @j |k| `l`",
  "{\"a\": [1, 2.5, -3e+10, null], \"b\": {}}",
  "x²+y³≠½·∑∞√π ≤ ± × ÷ → ⇒ $5 €6 £7 ¥8 ₹9",
  "camelCaseHTTPServerID snake_case_NAME kebab-case XMLHttpRequest iPhoneX McDonald",
];

const CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D", "’s", "’re", "’LL", "'ſ", "'x", "'", "''", "'st", "'l", "'r"];
const WORDS = ["I", "we", "They", "HELLO", "don", "can", "World", "iPhone", "été", "ÉTÉ", "Straße", "привет", "МИР", "Ñandú", "ǅ", "你好", "カナ", "한국", "ไทย", "naïve", "a", "B", "x1", "1x", "e", "İ", "ß"];
const NUMBERS = ["0", "7", "42", "123", "1234", "12345", "123456", "1234567890", "3.14159", "1,000,000", "1e10", "0xFF", "٣٤٥٦", "१२३४", "๑๒๓๔", "１２３４", "Ⅻ", "½¾", "²³", "①②", "𝟏𝟐𝟑𝟒", "५", "3rd", "v2.0.1", "+49-30"];
const PUNCTUATION = ["!", "?!", "...", "…", "--", "—", "«»", "“”", "()", "[]", "{}", "/", "//", "\\", "@", "#", "$", "%", "^", "&", "*", "_", "__", "=", "==", "~", "`", "```", "|", "<", ">", "</", "/>", "¿", "¡", "§", "•", "、", "。", "，", "！", "：", "；", "「", "」", "・", "〜", "።", "؟", "،", "।", "‐", "‰", "€", "±", "²", "+", "-", ":", ";", ",", ".", "\"", "^^", "$$$", "!!!!!!", "=====", "-----", "*****", "#####", "。。。", "，，", "/*", "*/", "=>", "->", "::", "¬", "¦", "¨", "´", "¸"];
const MARKS = ["\u0301", "\u0308", "\u0327", "\u0323\u0302", "\u093f", "\u094d", "\u0e31", "\u0e48", "\u05b8", "\u064b", "\u20dd", "\u3099", "\u0488", "\u1ab0", "\u0f71", "\u17d2", "\u{1d165}"];
const EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇺🇸🇫🇷", "❤️", "☺", "1️⃣", "🧑🏿‍🚀", "🤷‍♀️", "⌚", "▶️", "♠", "🀄", "🏴\u{e0067}\u{e0062}\u{e007f}"];
/** All of White_Space, and what looks like it. */
const SPACES = [" ", "\t", "\n", "\v", "\f", "\r", "\r\n", "\u0085", "\u00a0", "\u1680", "\u2000", "\u2003", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"];
const INVISIBLE = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u180e", "\u00ad", "\u001c", "\u001f", "\u200e", "\u061c", "\ufe0f", "\ufe0e", "\u{e0100}", "\u{e0001}"];
/** Control characters, unassigned, private and other code points without a use. */
const ODD = ["\u0000", "\u0001", "\u0007", "\b", "\u001b", "\u007f", "\u0080", "\u009f", "\ufffd", "\ufffe", "\uffff", "\ue000", "\u0378", "\u{10ffff}", "\u{f0000}", "\u{1fffe}", "\u{3ffff}", "\u{13000}", "\u{1f9ff}", "\u{2f800}", "\u{20000}", "\u9fff", "\u3400", "\ufdfa", "\ua7c2", "\u2c2f", "\u{11f00}", "\u{1e4d0}", "▁", "▁▁", "Ġ", "Ċ", "ĠĠ"];
/** Names of control tokens of many vocabularies, and pieces of them. */
const NAMES = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<s>", "</s>", "<unk>", "<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>", "<unused7>", "<mask>", "[multimodal]", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<tool_call>", "[INST]", "[/INST]", "<0x0A>", "<0xFF>", "<|im_", "|>", "<|", "im_end|>", "[PAD151700]", "<|reserved_special_token_3|>", "<PRE>", "▁<PRE>", " <SUF>", "▁<MID>", "▁<EOT>", "<h1>", "</li>", "<|fim_prefix|>", "<|file_sep|>", "<|user|>", "<|end|>", "<|assistant|>\n", "<sentinel:12>", "IMGIMGABBAZ", "<|<|im_end|>|>", "<s", "<｜"];

/** Things that once went wrong, or that end where something begins. */
const FIXED = [
  " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", "\r\n", "\r\n\r\n", "\r", " \n", "\n ", " \n ", "a ", " a", "  a", "a  ", "a\n", "\na", "a  b", "a   b", "a \n b", "a\n\n  b", "\u00a0a", "a\u00a0\u00a0b", "a\u3000\u3000",
  "<PRE> a <SUF> b <MID>", "Hello world", "Hello, world!", "I'm you're HE'S", "’s", "'s", " 's", "\n's", "1's", "$1", "$ 1", "a$b", "a=b", "a^b", "a|b", "a`b", "x+y", "10+20=30", "¬a", "é", "e\u0301", "\u0301", " \u0301", "a \u0301b", "\u0301\u0301a", "가", "\u1100\u1161", "Å", "\u212b", "A\u030a", "ﬁn", "ŉ", "İ", "ſ", "K",
  " ".repeat(200), "\n".repeat(60), "\t".repeat(40), "\r\n".repeat(30), " \n".repeat(30), "a".repeat(150), "1".repeat(100), "!".repeat(100), "-".repeat(100), "你".repeat(60), "😀".repeat(30), "\u00a0".repeat(20), "\u3000".repeat(20), "ab ".repeat(40), "'s".repeat(20), "\u0301".repeat(20), "=".repeat(65),
];

/** Each draws a text of one kind. */
const KINDS = [
  (random) => slice(random, random.pick(PROSE)),
  (random) => slice(random, random.pick(CODE)),
  (random) => parts(random, 1, 4, () => random.pick(WORDS) + random.pick(CONTRACTIONS) + random.pick(["", " ", random.pick(WORDS)])),
  (random) => parts(random, 1, 5, () => random.pick(["", " ", "  ", random.pick(SPACES)]) + random.pick(NUMBERS)),
  (random) => parts(random, 1, 6, () => random.pick([random.pick(PUNCTUATION), " " + random.pick(PUNCTUATION), random.pick(WORDS)]) + random.pick(["", "", " ", "\n", "\r\n", "/"])),
  (random) => parts(random, 1, 5, () => random.pick(WORDS) + parts(random, 1, 2, () => random.pick(MARKS)) + random.pick(["", " ", "-"])),
  (random) => parts(random, 1, 4, () => random.pick([random.pick(EMOJI), " " + random.pick(EMOJI), random.pick(WORDS)])),
  (random) => parts(random, 1, 8, () => random.pick([random.pick(SPACES), random.pick(SPACES).repeat(random.int(1, 5)), random.pick(WORDS), random.pick(PUNCTUATION)])),
  (random) => parts(random, 1, 6, () => random.pick(WORDS) + random.pick([" ", "  ", "   ", "\n", "\n\n", "\n  ", "\t", "\r\n", " \r\n "])),
  (random) => parts(random, 1, 5, () => random.pick([random.pick(INVISIBLE), random.pick(ODD), random.pick(WORDS), random.pick(MARKS), " "])),
  (random) => parts(random, 1, 4, () => random.pick([random.pick(NAMES), " " + random.pick(NAMES), random.pick(WORDS), random.pick(SPACES)])),
  (random) => parts(random, 1, 7, () => cased(random, random.pick(["word", "über", "ωμέγα", "мир", "x", "ID", "Ærø", "ֱא"])) + random.pick(["", "", "_", "1", " ", "'"])),
  (random) => parts(random, 2, 8, () => random.pick(random.pick([PROSE.map((text) => [...text][random.int(0, 9)] ?? "a"), PUNCTUATION, NUMBERS, SPACES, MARKS, EMOJI, ODD]))),
  (random) => parts(random, 1, 6, () => anyCharacter(random)),
];

/** 2,000 different texts, none empty, all well-formed. */
export const STRINGS = (() => {
  const random = new Random(SEED);
  const texts = new Set(FIXED);
  for (let index = 0; texts.size < 2000; index += 1) {
    const text = KINDS[index % KINDS.length](random);
    if (text !== "" && text.isWellFormed()) texts.add(text);
  }
  return [...texts];
})();

/** The texts that Unicode's composition (NFC) changes, composed. */
export const COMPOSED = new Map(STRINGS.map((text) => [text, text.normalize("NFC")]).filter(([text, composed]) => composed !== text));

function parts(random, low, high, one) {
  return Array.from({ length: random.int(low, high) }, one).join("");
}

/** A part of a text, cut between any two code points. */
function slice(random, text) {
  const points = [...text];
  const start = random.int(0, Math.max(0, points.length - 2));
  return points.slice(start, start + random.int(1, 24)).join("");
}

function cased(random, word) {
  return [...word].map((letter) => (random.chance(0.5) ? letter.toUpperCase() : letter.toLowerCase())).join("");
}

/** Any code point of the planes that have characters, surrogates excepted. */
function anyCharacter(random) {
  const point = random.pick([random.int(0, 0xff), random.int(0x100, 0x2fff), random.int(0x3000, 0xd7ff), random.int(0xe000, 0x1ffff), random.int(0xa640, 0xabff)]);
  return String.fromCodePoint(point);
}
