"""A reader of HTML pages, for the tests of the reports."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "path", "use"}


class HtmlReader(HTMLParser):
    """Collects tags, ids, links and all addresses in attributes, and checks that tags are nested properly."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.loaded, self.links, self.tags, self.open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if tag == "a" else []
        names = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
        self.loaded += [attrs[name] for name in names if name in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag
