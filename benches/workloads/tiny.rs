fn main() {
    let texts: Vec<String> = (0..10).map(|number| format!("{number}")).collect();
    println!("{texts:?}");
}
