//! Catchers of what runs tell: a mail server and a web server that take everything, and keep it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What was caught; its threads end with the process.
#[derive(Clone)]
pub struct Catcher {
    /// `HOST:PORT`.
    pub address: String,
    caught: Arc<Mutex<Vec<Caught>>>,
}

/// A mail, or a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Caught {
    /// The path of a request; the receiver of a mail.
    pub to: String,
    /// The header lines.
    pub head: String,
    pub body: String,
}

impl Catcher {
    fn start(serve: fn(TcpStream) -> Option<Caught>) -> Catcher {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let caught = Arc::<Mutex<Vec<Caught>>>::default();
        let shared = Arc::clone(&caught);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One after the other, so that they are in order.
                shared.lock().unwrap().extend(serve(stream));
            }
        });
        Catcher { address, caught }
    }

    /// A web server.
    pub fn web() -> Catcher {
        Catcher::start(request)
    }

    /// A mail server.
    pub fn mail() -> Catcher {
        Catcher::start(mail)
    }

    /// What was caught since this was asked for last.
    pub fn take(&self) -> Vec<Caught> {
        std::mem::take(&mut *self.caught.lock().unwrap())
    }
}

fn request(stream: TcpStream) -> Option<Caught> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let to = line.split(' ').nth(1)?.to_owned();
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(number) = line.to_lowercase().strip_prefix("content-length:") {
            length = number.trim().parse().ok()?;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut stream = stream;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        .ok()?;
    Some(Caught {
        to,
        head,
        body: String::from_utf8(body).ok()?,
    })
}

fn mail(mut stream: TcpStream) -> Option<Caught> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    stream.write_all(b"220 catcher\r\n").ok()?;
    let (mut to, mut text) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let word = line.get(..4).unwrap_or_default().to_uppercase();
        let answer = match word.as_str() {
            "EHLO" | "HELO" => "250 catcher\r\n",
            "RCPT" => {
                to = line.trim().to_owned();
                "250 ok\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").ok()?;
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
                    if line == ".\r\n" {
                        break;
                    }
                    text += &line.replace("\r\n", "\n");
                }
                "250 taken\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").ok()?;
                let (head, body) = text.split_once("\n\n")?;
                return Some(Caught {
                    to,
                    head: head.to_owned(),
                    body: body.to_owned(),
                });
            }
            _ => "250 ok\r\n",
        };
        stream.write_all(answer.as_bytes()).ok()?;
    }
}
