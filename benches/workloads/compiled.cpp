// What the compiler is given to compile: a handful of lines that bring in a great deal of the standard library.
#include <future>
#include <map>
#include <regex>
#include <string>

int main(int count, char **words)
{
    const std::regex wanted("a(b|c)*d");
    std::map<std::string, std::future<bool>> matches;
    for (int i = 0; i < count; i++) {
        const std::string word = words[i];
        matches.emplace(word, std::async([word, &wanted] { return std::regex_match(word, wanted); }));
    }
    int found = 0;
    for (auto &match : matches)
        found += match.second.get();
    return found;
}
