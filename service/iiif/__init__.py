"""The IIIF Image API 3.0 as pure values: what an address asks of a picture. https://iiif.io/api/image/3.0/"""
