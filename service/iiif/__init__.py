"""The IIIF Image API 3.0: requests, identifiers, info.json and transforms. https://iiif.io/api/image/3.0/"""
