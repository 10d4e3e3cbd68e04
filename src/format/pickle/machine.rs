//! A pickle as plain values. It runs no code: a global is only a name, and what a call or an object would make is [`Value::Opaque`]
//! unless it is a part of a tensor.
//! Opcodes: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>, protocols 2 to 5.
//!
//! Values lie in one list and name each other by index, so that neither reading nor dropping nested ones recurses.

use safetensors::Dtype;
use std::collections::HashMap;

/// Most values of a pickle that are kept: each takes up to 40 bytes.
const MOST_VALUES: usize = 1 << 22;
/// Most values on the stack, and most open marks.
const MOST_STACKED: usize = 1 << 20;

/// The index of a value.
pub(super) type Id = u32;

/// Numbers, texts and containers, and what tensors are made of.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// Anything else: None, a float, bytes, a set, an object of any other class.
    Opaque,
    Int(i64),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// In order; of equal keys the last counts.
    Dict(Vec<(Id, Id)>),
    Global(Global<'a>),
    /// A persistent id: the tuple ('storage', type, key, device, length).
    Storage(Id),
    /// A tensor by the arguments of the function that makes it.
    Tensor {
        arguments: Id,
    },
}

/// A name that has a meaning in a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) enum Global<'a> {
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2` and `_rebuild_tensor_v3`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `torch.Size`.
    Size,
    /// A storage's class or a dtype of torch.
    Element(Element<'a>),
    /// `torch.storage.UntypedStorage`: bytes.
    Bytes,
}

/// The type of a tensor's values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Element<'a> {
    Known(Dtype),
    /// By its name in torch.
    Other(&'a str),
}

impl<'a> Global<'a> {
    /// `None` for every other name.
    fn of(module: &str, name: &'a str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", "Size") => Global::Size,
            ("torch.storage" | "torch", "UntypedStorage") => Global::Bytes,
            ("torch.storage" | "torch", _) => Global::Element(element(name)?),
            _ => return None,
        })
    }
}

/// The type that a class of storages or a dtype is of.
fn element(name: &str) -> Option<Element<'_>> {
    let dtype = match name {
        "FloatStorage" | "float32" | "float" => Dtype::F32,
        "HalfStorage" | "float16" | "half" => Dtype::F16,
        "BFloat16Storage" | "bfloat16" => Dtype::BF16,
        "DoubleStorage" | "float64" | "double" => Dtype::F64,
        "LongStorage" | "int64" | "long" => Dtype::I64,
        "IntStorage" | "int32" | "int" => Dtype::I32,
        "ShortStorage" | "int16" | "short" => Dtype::I16,
        "CharStorage" | "int8" => Dtype::I8,
        "ByteStorage" | "uint8" => Dtype::U8,
        "BoolStorage" | "bool" => Dtype::BOOL,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        _ => {
            let other = name.ends_with("Storage")
                || ["float8_", "float4_", "complex", "quint", "qint", "bits"].iter().any(|word| name.starts_with(word));
            return other.then_some(Element::Other(name));
        }
    };
    Some(Element::Known(dtype))
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    top: Id,
}

/// What is wrong with a pickle.
type Problem = String;

impl<'a> Pickle<'a> {
    /// Reads a pickle to its end.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Problem> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: vec![Value::Opaque],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let top = machine.run().map_err(|problem| format!("at byte {} of its data.pkl: {problem}", machine.at))?;
        Ok(Pickle { values: machine.values, top })
    }

    pub(super) fn top(&self) -> &Value<'a> {
        self.get(self.top)
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }
}

/// The value that stands for all opaque ones.
const OPAQUE: Id = 0;

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Lengths of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Runs to STOP; returns the value on the stack. Every opcode takes a byte of the file at least and is run once, so time and
    /// memory are limited by the length of the pickle.
    fn run(&mut self) -> Result<Id, Problem> {
        loop {
            let [opcode] = self.array()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), Problem> {
        match opcode {
            // PROTO
            0x80 => {
                let [protocol] = self.array()?;
                if !(2..=5).contains(&protocol) {
                    return Err(format!("protocol {protocol} is not known"));
                }
                Ok(())
            }
            // FRAME
            0x95 => self.array::<8>().map(drop),
            b'(' => self.mark(),
            b'0' => self.pop_any(),
            // POP_MARK
            b'1' => self.since_mark().map(drop),
            // DUP
            b'2' => self.top().and_then(|top| self.stack(top)),
            // NONE, NEWTRUE, NEWFALSE, EMPTY_SET
            b'N' | 0x88 | 0x89 | 0x8f => self.stack(OPAQUE),
            b'G' => self.opaque(8),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            // LONG1, LONG4
            0x8a => self.length(1).and_then(|length| self.long(length)),
            0x8b => self.length(4).and_then(|length| self.long(length)),
            // Text: BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            b'X' => self.length(4).and_then(|length| self.text(length)),
            0x8c => self.length(1).and_then(|length| self.text(length)),
            0x8d => self.length(8).and_then(|length| self.text(length)),
            // Bytes: SHORT_BINSTRING, SHORT_BINBYTES; BINSTRING, BINBYTES; BINBYTES8, BYTEARRAY8
            b'U' | b'C' => self.length(1).and_then(|length| self.opaque(length)),
            b'T' | b'B' => self.length(4).and_then(|length| self.opaque(length)),
            0x8e | 0x96 => self.length(8).and_then(|length| self.opaque(length)),
            b'}' => self.push(Value::Dict(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b'd' | b'l' | b't' => self.container(opcode),
            // TUPLE1 to TUPLE3
            0x85..=0x87 => {
                let items = self.last(usize::from(opcode - 0x84))?;
                self.push(Value::Tuple(items))
            }
            // FROZENSET
            0x91 => self.since_mark().and_then(|_| self.stack(OPAQUE)),
            b'a' => self.last(1).and_then(|items| self.append(items)),
            b'e' => self.since_mark().and_then(|items| self.append(items)),
            b's' => self.last(2).and_then(|items| self.set_items(&items)),
            b'u' => self.since_mark().and_then(|items| self.set_items(&items)),
            // ADDITEMS
            0x90 => self.since_mark().and_then(|_| self.top().map(drop)),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            // STACK_GLOBAL
            0x93 => {
                let names = self.last(2)?;
                match (self.get(names[0]), self.get(names[1])) {
                    (&Value::Text(module), &Value::Text(name)) => self.global(module, name),
                    _ => Err("a global has no name".to_owned()),
                }
            }
            b'R' => self.call(),
            // NEWOBJ, NEWOBJ_EX, OBJ, INST
            0x81 => self.last(2).and_then(|_| self.stack(OPAQUE)),
            0x92 => self.last(3).and_then(|_| self.stack(OPAQUE)),
            b'o' => self.since_mark().and_then(|_| self.stack(OPAQUE)),
            // BUILD: the attributes of an object. Those of a dict, such as `_metadata`, are no entries.
            b'b' => self.last(1).and_then(|_| self.top().map(drop)),
            // EXT1, EXT2, EXT4
            0x82 => self.opaque(1),
            0x83 => self.opaque(2),
            0x84 => self.opaque(4),
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)
            }
            b'q' => self.length(1).and_then(|index| self.remember(index)),
            b'r' => self.length(4).and_then(|index| self.remember(index)),
            // MEMOIZE
            0x94 => self.remember(self.memo.len()),
            b'h' => self.length(1).and_then(|index| self.recall(index)),
            b'j' => self.length(4).and_then(|index| self.recall(index)),
            _ => Err(format!("opcode {opcode:#04x} is not one that torch.save writes")),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Problem> {
        let taken = self.bytes[self.at..].get(..length).ok_or("it ends early")?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("N bytes were taken"))
    }

    /// A little-endian number of some bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, Problem> {
        let mut whole = [0; 8];
        whole[..bytes].copy_from_slice(self.take(bytes)?);
        usize::try_from(u64::from_le_bytes(whole)).map_err(|_| "it ends early".to_owned())
    }

    fn line(&mut self) -> Result<&'a str, Problem> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(MOST_LINE).position(|byte| *byte == b'\n').ok_or("a name has no end")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a name is not UTF-8".to_owned())
    }

    fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Problem> {
        if self.values.len() == MOST_VALUES {
            return Err(format!("it has more than {MOST_VALUES} values"));
        }
        let id = Id::try_from(self.values.len()).expect("MOST_VALUES fits");
        self.values.push(value);
        self.stack(id)
    }

    fn stack(&mut self, id: Id) -> Result<(), Problem> {
        if self.stack.len() == MOST_STACKED {
            return Err(format!("its stack has more than {MOST_STACKED} values"));
        }
        self.stack.push(id);
        Ok(())
    }

    fn mark(&mut self) -> Result<(), Problem> {
        if self.marks.len() == MOST_STACKED {
            return Err(format!("it has more than {MOST_STACKED} open marks"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// The last values, which lie above the last mark.
    fn last(&mut self, count: usize) -> Result<Vec<Id>, Problem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let first = self.stack.len().checked_sub(count).filter(|first| *first >= floor).ok_or(EMPTY)?;
        Ok(self.stack.split_off(first))
    }

    fn pop(&mut self) -> Result<Id, Problem> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// POP drops a mark where one is on top.
    fn pop_any(&mut self) -> Result<(), Problem> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn top(&self) -> Result<Id, Problem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..].last().copied().ok_or_else(|| EMPTY.to_owned())
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, Problem> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn opaque(&mut self, length: usize) -> Result<(), Problem> {
        self.take(length)?;
        self.stack(OPAQUE)
    }

    fn text(&mut self, length: usize) -> Result<(), Problem> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a text is not UTF-8")?;
        self.push(Value::Text(text))
    }

    /// An integer of some bytes, little-endian in two's complement; one of more than eight bytes is opaque.
    fn long(&mut self, length: usize) -> Result<(), Problem> {
        let bytes = self.take(length)?;
        if length > 8 {
            return self.stack(OPAQUE);
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..length].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(whole)))
    }

    /// DICT, LIST, TUPLE.
    fn container(&mut self, opcode: u8) -> Result<(), Problem> {
        let items = self.since_mark()?;
        match opcode {
            b'l' => self.push(Value::List(items)),
            b't' => self.push(Value::Tuple(items)),
            _ => {
                self.push(Value::Dict(Vec::new()))?;
                self.set_items(&items)
            }
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), Problem> {
        let top = self.top()?;
        match &mut self.values[top as usize] {
            Value::List(list) => list.extend(items),
            Value::Opaque => {}
            _ => return Err("it appends to a value that is no list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), Problem> {
        let top = self.top()?;
        let pairs = items.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err("a key of a dict has no value".to_owned());
        }
        match &mut self.values[top as usize] {
            Value::Dict(dict) => dict.extend(pairs.map(|pair| (pair[0], pair[1]))),
            Value::Opaque => {}
            _ => return Err("it sets items of a value that is no dict".to_owned()),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &'a str) -> Result<(), Problem> {
        match Global::of(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => self.stack(OPAQUE),
        }
    }

    /// REDUCE: the few calls that make tensors and dicts; the result of every other is opaque.
    fn call(&mut self) -> Result<(), Problem> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Global(function), Value::Tuple(items)) = (self.get(function), self.get(arguments)) else {
            return self.stack(OPAQUE);
        };
        let first = items.first().copied();
        match function {
            Global::OrderedDict if first.is_none() => self.push(Value::Dict(Vec::new())),
            Global::RebuildTensor => self.push(Value::Tensor { arguments }),
            Global::RebuildParameter | Global::Size => self.stack(first.unwrap_or(OPAQUE)),
            Global::OrderedDict | Global::Element(_) | Global::Bytes => self.stack(OPAQUE),
        }
    }

    fn storage(&mut self, id: Id) -> Result<(), Problem> {
        match self.get(id) {
            Value::Tuple(items) if items.len() == 5 && matches!(self.get(items[0]), Value::Text("storage")) => {
                self.push(Value::Storage(id))
            }
            _ => self.stack(OPAQUE),
        }
    }

    fn remember(&mut self, index: usize) -> Result<(), Problem> {
        let top = self.top()?;
        let index = u32::try_from(index).map_err(|_| "its memo is too large")?;
        if self.memo.len() >= MOST_VALUES && !self.memo.contains_key(&index) {
            return Err(format!("it remembers more than {MOST_VALUES} values"));
        }
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), Problem> {
        let found = u32::try_from(index).ok().and_then(|index| self.memo.get(&index)).copied();
        self.stack(found.ok_or_else(|| format!("value {index} of its memo is missing"))?)
    }
}

/// Most bytes of a module's or class's name.
const MOST_LINE: usize = 1 << 10;

const EMPTY: &str = "a value is missing on the stack";
