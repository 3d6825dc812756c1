//! Servers of this machine that misbehave on purpose.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread::JoinHandle,
};

/// What a server does with one request.
#[derive(Clone, Copy)]
pub enum Answer {
    /// Sends what was asked for.
    Whole,
    /// Announces all and closes the connection after so many bytes.
    CutAfter(usize),
    /// Sends the whole file, whatever part was asked for.
    IgnoresRange,
    /// Sends the part one byte further on.
    WrongRange,
    /// Knows nothing.
    NotFound,
}

/// A server that gives one answer a request, and the requests' ranges when it is done.
pub struct Server {
    pub url: String,
    thread: JoinHandle<Vec<Option<usize>>>,
}

impl Server {
    pub fn start(file: &[u8], answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/set.tar.gz", listener.local_addr().unwrap());
        let (file, answers) = (file.to_vec(), answers.to_vec());
        let serve = move |answer| {
            let (stream, _) = listener.accept().unwrap();
            let range = requested_range(&stream);
            reply(stream, &file, range, answer);
            range
        };
        Self { url, thread: std::thread::spawn(|| answers.into_iter().map(serve).collect()) }
    }

    pub fn ranges(self) -> Vec<Option<usize>> {
        self.thread.join().unwrap()
    }
}

fn requested_range(stream: &TcpStream) -> Option<usize> {
    let lines = BufReader::new(stream).lines().map(|line| line.unwrap().to_lowercase());
    let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let range = head.iter().find_map(|line| line.strip_prefix("range: bytes="));
    range.map(|range| range.trim_end_matches('-').parse().unwrap())
}

fn reply(mut stream: TcpStream, file: &[u8], range: Option<usize>, answer: Answer) {
    let start = range.unwrap_or(0);
    let (status, first, bytes) = match answer {
        Answer::NotFound => ("404 Not Found", 0, &b"gone"[..]),
        Answer::IgnoresRange => ("200 OK", 0, file),
        Answer::WrongRange => ("206 Partial Content", start + 1, &file[start + 1..]),
        _ if start >= file.len() => ("416 Range Not Satisfiable", 0, &b""[..]),
        _ if range.is_some() => ("206 Partial Content", start, &file[start..]),
        _ => ("200 OK", 0, file),
    };
    let sent = match answer {
        Answer::CutAfter(count) => &bytes[..count],
        _ => bytes,
    };
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    head += &format!("Content-Length: {}\r\n", bytes.len());
    if status.starts_with("206") {
        head += &format!("Content-Range: bytes {first}-{}/{}\r\n", file.len() - 1, file.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(sent).unwrap();
}
