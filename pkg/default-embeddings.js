// The small embedding model that stands in for those without files of their own. Apache-2.0; made by the authors of sentence-transformers.

const FOLDER = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main";

export const DEFAULT_EMBEDDINGS = {
  /** Its model id, which is also in the crate's catalogue. */
  id: "@cf/sentence-transformers/all-minilm-l6-v2",
  /** In the folder of stored models. */
  folder: "all-MiniLM-L6-v2",
  /** Length of its vectors. */
  width: 384,
  weights: {
    file: "model.safetensors",
    url: `${FOLDER}/model.safetensors`,
    size: 90_868_376,
    sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
  },
  config: {
    file: "config.json",
    url: `${FOLDER}/config.json`,
    size: 612,
    sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
  },
  tokenizer: {
    file: "tokenizer.json",
    url: `${FOLDER}/tokenizer.json`,
    size: 466_247,
    sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
  },
};

/** @typedef {typeof DEFAULT_EMBEDDINGS.weights} DefaultFile */
