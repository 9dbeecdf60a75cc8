//! The files of a model, read as one: usually one file, or the parts that llama.cpp's `gguf-split` writes.
//!
//! Each part is a GGUF file with a header of its own: `split.no` (from 0) and `split.count` say which part it is. The first one has the
//! model's metadata, and each one has some of the tensors. The headers of all parts are read before any weights, because backends must know
//! all tensors first. Then the parts are read one after another, so at most two connections are open at any time.

use super::header::{Header, MAX_TENSORS, TensorEntry};
use super::reader::{Progress, Reader};
use super::source::Source;
use crate::error::{AiError, ErrorCode, Result};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// The most files of a model.
const MAX_PARTS: u64 = 1024;

/// The files of one model, read front to back, one after another.
pub struct Parts {
    /// In the order of the model.
    files: Vec<File>,
    /// The index of the file that `reader` reads.
    current: usize,
    reader: Reader,
    progress: Rc<Sum>,
}

struct File {
    source: Rc<dyn Source>,
    /// Length in bytes, if the source reports it.
    size: Option<u64>,
    /// As its header listed them when all headers were read; empty if the model is not split.
    tensors: Vec<TensorEntry>,
}

impl Parts {
    /// Reads the headers of all files of the model that `source` belongs to. Returns the model's metadata with the tensors of all files, and
    /// the files, which are at the start of the first one.
    ///
    /// # Errors
    ///
    /// 5004 if a header cannot be used, or if the files are not all the parts of one model; 3040 if there is no memory for a header; the
    /// errors of [`Reader::next`].
    pub async fn open(source: Rc<dyn Source>, on_progress: Rc<dyn Fn(Progress)>) -> Result<(Header, Self)> {
        let others = source.others();
        let stage = if others.sources.is_empty() { Stage::Whole } else { Stage::Headers };
        let progress = Rc::new(Sum { stage: Cell::new(stage), on_progress });
        let mut reader = progress.reader(&source);
        let header = Header::read(&mut reader).await?;
        let name = reader.name();
        let Some(split) = Split::of(&header, &name)? else {
            if others.listed {
                return Err(AiError::invalid_data(format!(
                    "{name} is not a part of a split model, but stands in a list of files. Give it alone, without a list."
                )));
            }
            progress.stage.set(Stage::Whole);
            let file = File { source, size: reader.size(), tensors: Vec::new() };
            return Ok((header, Self { files: vec![file], current: 0, reader, progress }));
        };
        let count = split.count;
        if others.sources.len() as u64 + 1 != count {
            return Err(split.incomplete(&name, others.sources.len() + 1, others.listed));
        }
        if !others.listed && source.sha256().is_some() {
            return Err(AiError::invalid_data(format!(
                "{name} is part {} of {count} of a split model, and its SHA-256 says nothing about the other parts. Give all {count} files as a list, each with its own.",
                split.number + 1
            )));
        }

        let mut collected = Collected::new(split);
        collected.add(source, header, reader, split.number)?;
        for other in others.sources {
            let mut reader = progress.reader(&other);
            let header = Header::read(&mut reader).await.map_err(|error| needed(error, &name, count, others.listed))?;
            let of_other = Split::of(&header, &reader.name())?;
            let number = match of_other {
                Some(of_other) if of_other.count == count => of_other.number,
                _ => {
                    let says = of_other.map_or("it is not split".to_owned(), |of_other| format!("it is one of {}", of_other.count));
                    return Err(AiError::invalid_data(format!(
                        "{} does not belong to the same model as {name}, which is one of {count} files: {says}. Give the {count} files of one model.",
                        reader.name()
                    )));
                }
            };
            collected.add(other, header, reader, number)?;
        }
        collected.finish(&name, progress)
    }

    /// The name of the first file, which is the model's, for messages.
    pub fn name(&self) -> String {
        self.name_of(0)
    }

    /// The name of the file with this index, for messages.
    pub fn name_of(&self, part: usize) -> String {
        self.files.get(part).map_or_else(|| self.reader.name(), |file| file.source.name())
    }

    /// Length of a file in bytes, if its source reports it.
    pub fn size(&self, part: usize) -> Option<u64> {
        self.files.get(part)?.size
    }

    /// How much of all files has been read.
    pub fn progress(&self) -> Progress {
        self.progress.of(self.reader.progress())
    }

    /// Skips everything before a tensor, whose bytes come next. Tensors are asked for in the order of the model.
    ///
    /// # Errors
    ///
    /// 5004 if tensors overlap, if the file ends too early or is not the expected one (SHA-256), 3008 if a file has changed since its header
    /// was read; otherwise like [`Reader::next`].
    pub async fn skip_to(&mut self, tensor: &TensorEntry) -> Result<()> {
        while self.current < tensor.part && self.next_file().await? {}
        self.reader.skip_to(tensor.offset).await
    }

    /// The next 1 to `limit` bytes of a tensor that ends at offset `end` of its file.
    ///
    /// # Errors
    ///
    /// 5004 if the file ends before the tensor does; otherwise like [`Reader::next`].
    pub async fn next_of(&mut self, end: u64, limit: usize) -> Result<&[u8]> {
        self.reader.next_of(end, limit).await
    }

    /// Reads the rest of the files whose SHA-256 is known, and compares it.
    ///
    /// # Errors
    ///
    /// Like [`Parts::skip_to`].
    pub async fn verify(&mut self) -> Result<()> {
        while self.next_file().await? {}
        self.reader.verify().await
    }

    /// Goes on to the start of the next file; `false` if there is none.
    async fn next_file(&mut self) -> Result<bool> {
        let Some(next) = self.files.get(self.current + 1) else { return Ok(false) };
        self.reader.verify().await?;
        self.progress.file_ends(self.files[self.current].size.unwrap_or(self.reader.progress().loaded));
        self.current += 1;
        // This closes the connection to the file before.
        self.reader = self.progress.reader(&next.source);
        let tensors = in_part(Header::read(&mut self.reader).await?.into_tensors(), self.current);
        if tensors == next.tensors {
            return Ok(true);
        }
        Err(AiError::new(
            ErrorCode::Aborted,
            format!("The model file {} changed while it was read: its header lists other tensors now. Try again.", self.reader.name()),
        ))
    }
}

/// Which part of a model a file is, as its header says.
#[derive(Clone, Copy)]
struct Split {
    /// From 0.
    number: u64,
    /// Of files, 2 to [`MAX_PARTS`].
    count: u64,
}

impl Split {
    /// `None` if the file is a whole model.
    fn of(header: &Header, name: &str) -> Result<Option<Self>> {
        let Some(count) = header.get("split.count") else { return Ok(None) };
        let Some(count) = super::integer(count) else {
            return Err(AiError::invalid_data(format!(
                "{name} cannot be used as a model: its 'split.count' is not a number. Get the file again."
            )));
        };
        if count <= 1 {
            return Ok(None);
        }
        if count > MAX_PARTS {
            return Err(AiError::invalid_data(format!(
                "{name} cannot be used as a model: it is split into too many files, at most {MAX_PARTS} are supported. Merge them with llama.cpp's gguf-split."
            )));
        }
        let Some(number) = header.integer("split.no").filter(|number| *number < count) else {
            return Err(AiError::invalid_data(format!(
                "{name} cannot be used as a model: its 'split.no' does not fit its 'split.count' of {count}. Get the file again."
            )));
        };
        Ok(Some(Self { number, count }))
    }

    /// The error (5004) for a model of which the configuration has only `known` files.
    fn incomplete(self, name: &str, known: usize, listed: bool) -> AiError {
        let (part, count) = (self.number + 1, self.count);
        let is = format!("{name} is part {part} of {count} of a split model");
        let all = format!("Give all {count} files as a list, in any order");
        AiError::invalid_data(match (listed, known) {
            (true, _) => format!("{is}, but the list has {known} files. {all}."),
            (false, 1) => format!("{is}. {all}, or one whose name ends in -{part:05}-of-{count:05}.gguf, with the others beside it."),
            (false, _) => {
                format!("{is}, but is named as one of {known}. Rename the files, or give all {count} files as a list, in any order.")
            }
        })
    }
}

/// Adds to an error of another file why that file is read, unless the configuration names it.
fn needed(error: AiError, name: &str, count: u64, listed: bool) -> AiError {
    if listed || !matches!(error.code, ErrorCode::NotFound | ErrorCode::BadInput) {
        return error;
    }
    let text = format!(
        "{} It belongs to {name}, a model of {count} files: put them all beside each other, or give all {count} files as a list, in any order.",
        error.text
    );
    AiError { text, ..error }
}

/// The parts of a model while their headers are read.
struct Collected {
    count: u64,
    /// By their number.
    files: Vec<Option<File>>,
    tensors: usize,
    /// The header of the first part, and its reader, which goes on behind it.
    first: Option<(Header, Reader)>,
}

impl Collected {
    fn new(split: Split) -> Self {
        Self { count: split.count, files: (0..split.count).map(|_| None).collect(), tensors: 0, first: None }
    }

    /// Adds a part, whose header has been read. Only the reader of the first one is kept.
    fn add(&mut self, source: Rc<dyn Source>, mut header: Header, reader: Reader, number: u64) -> Result<()> {
        let count = self.count;
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(place) = self.files.get_mut(number) else {
            return Err(AiError::invalid_data(format!("{} is not one of {count} files.", reader.name())));
        };
        if let Some(other) = place {
            return Err(AiError::invalid_data(format!(
                "{} and {} are both part {} of {count} of a split model. Give each part once.",
                other.source.name(),
                reader.name(),
                number + 1
            )));
        }
        let tensors = in_part(std::mem::take(&mut header.tensors), number);
        self.tensors += tensors.len();
        if self.tensors > MAX_TENSORS {
            return Err(AiError::invalid_data(format!(
                "{} cannot be used as a model: its files have more than {MAX_TENSORS} tensors.",
                reader.name()
            )));
        }
        *place = Some(File { source, size: reader.size(), tensors });
        if number == 0 {
            self.first = Some((header, reader));
        }
        Ok(())
    }

    /// The whole model. As many files have been added as there are numbers, each with another number.
    fn finish(self, name: &str, progress: Rc<Sum>) -> Result<(Header, Parts)> {
        let files: Vec<File> = self.files.into_iter().flatten().collect();
        let (Some((mut header, reader)), true) = (self.first, files.len() as u64 == self.count) else {
            return Err(AiError::invalid_data(format!("{name} is split into {} files, but not all are there.", self.count)));
        };
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(self.tensors);
        for entry in files.iter().flat_map(|file| &file.tensors) {
            if let Some(other) = places.insert(&entry.name, entry.part) {
                return Err(AiError::invalid_data(format!(
                    "{} and {} both have the tensor '{}'. One of them belongs to another model: give the {} files of one model.",
                    files[other].source.name(),
                    files[entry.part].source.name(),
                    entry.name,
                    self.count
                )));
            }
        }
        if let Some(expected) = header.integer("split.tensors.count").filter(|expected| *expected != self.tensors as u64) {
            return Err(AiError::invalid_data(format!(
                "The {} files of {} have {} tensors together, but the model has {expected}. One of them belongs to another model or is damaged. Get the files again.",
                self.count,
                reader.name(),
                self.tensors
            )));
        }
        header.tensors = files.iter().flat_map(|file| file.tensors.iter().cloned()).collect();
        let total = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.size?));
        progress.stage.set(Stage::Weights { before: 0, total });
        Ok((header, Parts { files, current: 0, reader, progress }))
    }
}

fn in_part(mut tensors: Vec<TensorEntry>, part: usize) -> Vec<TensorEntry> {
    for entry in &mut tensors {
        entry.part = part;
    }
    tensors
}

/// The progress over all files, from that of the reader of one.
struct Sum {
    stage: Cell<Stage>,
    on_progress: Rc<dyn Fn(Progress)>,
}

#[derive(Clone, Copy)]
enum Stage {
    /// The model is one file.
    Whole,
    /// The headers of its files are read. Nothing counts, because most of them are read again.
    Headers,
    /// A file is read. `before`: the bytes of those before it; `total`: of all.
    Weights { before: u64, total: Option<u64> },
}

impl Sum {
    fn reader(self: &Rc<Self>, source: &Rc<dyn Source>) -> Reader {
        let sum = Rc::clone(self);
        Reader::new(Rc::clone(source), Box::new(move |progress| (sum.on_progress)(sum.of(progress))))
    }

    fn of(&self, progress: Progress) -> Progress {
        match self.stage.get() {
            Stage::Whole => progress,
            Stage::Headers => Progress { loaded: 0, total: None },
            Stage::Weights { before, total } => Progress { loaded: before.saturating_add(progress.loaded), total },
        }
    }

    /// Counts a file as read.
    fn file_ends(&self, size: u64) {
        if let Stage::Weights { before, total } = self.stage.get() {
            self.stage.set(Stage::Weights { before: before.saturating_add(size), total });
        }
    }
}
